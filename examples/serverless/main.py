"""The entry for Google Cloud Run functions: `answer_http`, a POST of JSON or a GET."""

import flask
import functions_framework
from search import answer, answer_text, as_json, from_query_string


@functions_framework.http  # type: ignore[untyped-decorator]
def answer_http(request: flask.Request) -> tuple[str, int, dict[str, str]]:
    """Answer a request of Flask, which the functions framework hands over."""
    body = request.get_data()
    status, content = answer_text(body) if body else answer(from_query_string(request.args))
    return as_json(content), status, {"Content-Type": "application/json; charset=utf-8"}
