"""The entry for AWS Lambda: `handler.handler`, behind a function URL or an API Gateway, or invoked.

Invoked directly, the event is the question itself. Over HTTP the question is the body of a POST, or
`query` and `k` of a GET's query string.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from search import answer, answer_text, as_json, from_query_string


def handler(event: Any, context: object = None) -> dict[str, Any]:  # noqa: ANN401
    """Answer an event: of HTTP if it says so (payload format 2.0, or 1.0), else a question."""
    del context
    if not isinstance(event, dict) or "requestContext" not in event:
        status, content = answer(event)
        return {"statusCode": status, **content}
    status, content = _over_http(event)
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return {"statusCode": status, "headers": headers, "body": as_json(content)}


def _over_http(event: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    if not event.get("body"):
        return answer(from_query_string(event.get("queryStringParameters") or {}))
    body = event["body"]
    if event.get("isBase64Encoded"):
        try:
            body = base64.b64decode(body)
        except (binascii.Error, ValueError) as error:
            return 400, {"error": f"the body is no base64: {error}."}
    return answer_text(body)
