"""The description is of what is served: Schemathesis asks what it allows, and what it does not."""

import contextlib
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis (extra `dev`)")

from runtime.server.conftest import DOCUMENTS, Process

from spladelet import Index

TEXT, BOOLEAN = {"type": "string"}, {"type": "boolean"}
NUMBER, COUNT = {"type": "number"}, {"type": "integer", "minimum": 0}
ERROR_TYPES = ["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer"]


def or_null(kind):
    return {**kind, "nullable": True}


def fields(required, **others):
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **others},
    }


def rows(item):
    return {"type": "array", "items": {"type": "array", "items": item}}


def answers(given, *refused):
    error = fields({"error": TEXT, "error_type": {"type": "string", "enum": ERROR_TYPES}})
    kinds = {"200": given, **dict.fromkeys(refused, error)}
    return {
        status: {"description": "", "content": {"application/json": {"schema": kind}}}
        for status, kind in kinds.items()
    }


# What text-embeddings-inference publishes of the routes that we have, too. Texts alone are inputs:
# theirs may be token ids as well.
# Source: https://github.com/huggingface/text-embeddings-inference, docs/openapi.json, version 1.7.1
CONTRACT = {
    "openapi": "3.0.3",
    "info": {"title": "text-embeddings-inference", "version": "1.7.1"},
    "paths": {
        "/embed_sparse": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": fields(
                                {"inputs": {"oneOf": [TEXT, {"type": "array", "items": TEXT}]}},
                                truncate=or_null(BOOLEAN),
                                truncation_direction={"type": "string", "enum": ["left", "right"]},
                                prompt_name=or_null(
                                    {"type": "string", "enum": ["query", "document", None]}
                                ),
                            )
                        }
                    },
                },
                "responses": answers(
                    rows(fields({"index": COUNT, "value": NUMBER})), "413", "422", "424", "429"
                ),
            }
        },
        "/info": {
            "get": {
                "responses": answers(
                    fields(
                        {
                            "model_id": TEXT,
                            "model_dtype": TEXT,
                            "model_type": fields({"embedding": fields({"pooling": TEXT})}),
                            "max_concurrent_requests": COUNT,
                            "max_input_length": COUNT,
                            "max_batch_tokens": COUNT,
                            "max_client_batch_size": COUNT,
                            "auto_truncate": BOOLEAN,
                            "tokenization_workers": COUNT,
                            "version": TEXT,
                        },
                        docker_label=or_null(TEXT),
                        max_batch_requests=or_null(COUNT),
                        model_sha=or_null(TEXT),
                        sha=or_null(TEXT),
                    )
                )
            }
        },
    },
}


@pytest.fixture(scope="module")
def server(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openapi") / "index"
    Index.build(encoder.encode_documents(DOCUMENTS), DOCUMENTS, model_name="default").save(folder)
    process = Process(folder, "--writable", "--limit", "texts=4", "--limit", "documents=4").wait()
    yield process
    code, log = process.end()
    process.close()
    assert "Traceback" not in log
    assert code == 128 + 15


# A schema cannot say everything: as many weights as ids, filters, what metadata may be.
SAY_MORE = ("/v1/search", "/v1/documents")
CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            # 413 says that there is more of something than is taken.
            "negative_data_rejection": {"expected-statuses": [400, 403, 404, 405, 413, 415, 422]},
            "positive_data_acceptance": {"expected-statuses": [200, 403, 404]},
        },
        "operations": [
            {
                "include-path": path,
                "checks": {"positive_data_acceptance": {"expected-statuses": [200, 403, 404, 422]}},
            }
            for path in SAY_MORE
        ],
    }
)


CHECKS = [
    schemathesis.checks.response_schema_conformance,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_as_described(server, mode):
    described = schemathesis.openapi.from_url(f"{server.url}/openapi.json", config=CONFIG)
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) >= 14
    for operation in operations:

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            case.call_and_validate()

        with contextlib.suppress(Unsatisfiable):  # of what takes nothing, nothing is wrong
            ask()


@pytest.mark.parametrize("path", CONTRACT["paths"])
def test_every_answer_is_as_text_embeddings_inference_describes(server, path):
    described = schemathesis.openapi.from_dict(CONTRACT)
    described.config.base_url = server.url
    (operation,) = [
        found.ok() for found in described.get_all_operations() if found.ok().path == path
    ]
    statuses = set()

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def ask(case):
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        statuses.add(answer.status_code)

    ask()
    assert 200 in statuses <= {200, 413}


@pytest.mark.parametrize(
    ("inputs", "status", "kind"),
    [
        (["x"] * 5, 413, "Validation"),
        ("x " * 600, 413, "Validation"),
        (5, 422, "Validation"),
        (None, 422, "Validation"),
    ],
)
def test_refusals_have_the_contracts_statuses_and_types(server, inputs, status, kind):
    found, answer = server.ask("/embed_sparse", {"inputs": inputs})
    assert (found, answer["error_type"], set(answer)) == (status, kind, {"error", "error_type"})
