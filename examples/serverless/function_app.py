"""The entry for Azure Functions (programming model v2): `/api/search`, a POST of JSON or a GET."""

import azure.functions as azure
from search import answer, answer_text, as_json, from_query_string

app = azure.FunctionApp(http_auth_level=azure.AuthLevel.FUNCTION)


@app.route(route="search", methods=["GET", "POST"])  # type: ignore[untyped-decorator]
def search_http(request: azure.HttpRequest) -> azure.HttpResponse:
    """Answer a request of the Functions host."""
    body = request.get_body()
    status, content = answer_text(body) if body else answer(from_query_string(request.params))
    return azure.HttpResponse(as_json(content), status_code=status, mimetype="application/json")
