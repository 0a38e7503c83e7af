"""The bodies of requests and answers, as JSON Schema: what is checked, and what is documented."""

from typing import Any

from spladelet.server.limits import Limits
from spladelet.server.refusals import KINDS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
_TERM_ID: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_WEIGHT: Schema = {"type": "number", "minimum": 0, "maximum": 3.4e38}  # what float32 holds
_WEIGHTS_BY_TERM: Schema = {"type": "object", "additionalProperties": _WEIGHT}
_LEXICAL: Schema = {
    "description": "What BM25 counts beside the model: a number, or only for words alone",
    "anyOf": [{"type": "number", "minimum": 0, "maximum": 1e6}, {"enum": ["only", None]}],
}
_VECTOR: Schema = {
    "type": "object",
    "description": "Term ids and their weights",
    "required": ["ids", "weights"],
    "properties": {
        "ids": {"type": "array", "items": _TERM_ID, "maxItems": 200_000},
        "weights": {"type": "array", "items": _WEIGHT, "maxItems": 200_000},
    },
    "additionalProperties": False,
}
ERROR: Schema = {
    "type": "object",
    "required": ["error", "error_type"],
    "properties": {"error": TEXT, "error_type": {"type": "string", "enum": list(KINDS)}},
}


def body(required: list[str], **properties: Schema) -> Schema:
    """Return the schema of an object that has no other fields."""
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def _texts(limits: Limits) -> Schema:
    """Return the schema of one text or several."""
    return {"type": ["string", "array"], "items": TEXT, "maxItems": limits.texts}


def embed_sparse(limits: Limits) -> Schema:
    """Return text-embeddings-inference's, whose clients may send fields of later versions."""
    return body(
        ["inputs"],
        inputs=_texts(limits),
        truncate={"type": ["boolean", "null"], "default": None},
        truncation_direction={"enum": ["left", "right", "Left", "Right"], "default": "right"},
        prompt_name={"enum": ["query", "document", None], "default": None},
    ) | {"additionalProperties": True}


SPARSE_VALUES: Schema = {
    "type": "array",
    "items": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["index", "value"],
            "properties": {"index": _TERM_ID, "value": _WEIGHT},
        },
    },
}


def encode(limits: Limits) -> Schema:
    """Return the schema of texts to encode."""
    return body(
        ["texts"],
        texts=_texts(limits),
        max_active_dims={"type": ["integer", "null"], "minimum": 1, "maximum": 2**31 - 1},
        min_weight={"type": "number", "minimum": 0, "maximum": 1e9},
    )


def encoded(vector: Schema) -> Schema:
    """Return the schema of encoded texts."""
    return body(
        ["model", "vectors", "truncated"],
        model={"type": "string", "description": "The model's fingerprint"},
        vectors={"type": "array", "items": vector},
        truncated={
            "type": "array",
            "items": {"type": "integer"},
            "description": "The numbers of texts that were longer than the model reads, and cut",
        },
    )


ENCODED = encoded(_VECTOR)
ENCODED_TERMS = encoded(_WEIGHTS_BY_TERM)


def engine_input(limits: Limits) -> Schema:
    """Return the schema of what search engines send, which may add settings of theirs."""
    return body(["input"], input=_texts(limits)) | {"additionalProperties": True}


OPENSEARCH_ANSWER: Schema = {"type": "array", "items": _WEIGHTS_BY_TERM}
ELASTICSEARCH_ANSWER: Schema = body(
    ["result"],
    result=body(
        ["sparse_embeddings"],
        sparse_embeddings={
            "type": "array",
            "items": body(
                ["index", "embedding"],
                index={"type": "integer"},
                embedding={
                    "type": "array",
                    "items": body(["token", "weight"], token=TEXT, weight=_WEIGHT),
                },
            ),
        },
    ),
)

_SOURCE: Schema = {
    "description": "Where in the text it comes from, in characters; null if the model cannot tell",
    **body(
        ["word", "start", "end", "special"],
        word=TEXT,
        start={"type": "integer"},
        end={"type": "integer"},
        special={
            "type": "boolean",
            "description": "Whether it comes from a token that stands for the text as a whole",
        },
    ),
    "type": ["object", "null"],
}
_MARKS: Schema = {
    "type": "array",
    "description": "What matters, in order, in characters; none overlap",
    "items": body(
        ["start", "end", "terms", "added", "score"],
        start={"type": "integer"},
        end={"type": "integer"},
        terms={"type": "array", "items": TEXT},
        added={
            "type": "boolean",
            "description": "Whether it only stands behind terms that the model added",
        },
        score=NUMBER,
    ),
}
_SNIPPET: Schema = {
    "description": "The passage that the score comes from; only if asked for, and for few hits",
    **body(
        ["text", "start", "marks", "title_marks", "cut_before", "cut_after"],
        text=TEXT,
        start={"type": "integer", "description": "Where in the document's text it begins"},
        marks=_MARKS,
        title_marks=_MARKS,
        cut_before={"type": "boolean"},
        cut_after={"type": "boolean"},
    ),
    "type": ["object", "null"],
}
_HIT: Schema = body(
    ["id", "score", "margin", "lexical", "title", "text", "metadata"],
    id=TEXT,
    score=NUMBER,
    margin={"type": "number", "description": "How far off the score may be; 0 is exact"},
    lexical={"type": "number", "description": "How much of the score comes from words"},
    title=TEXT,
    text=TEXT,
    metadata={"type": "object"},
    snippet=_SNIPPET,
)
HITS: Schema = body(["hits"], hits={"type": "array", "items": _HIT})


def search(limits: Limits) -> Schema:
    """Return the schema of a search."""
    ids = {"type": "array", "items": TEXT, "maxItems": limits.ids}
    return body(
        [],
        query={"type": "string", "description": "The text; with a vector, only its words are used"},
        vector=_VECTOR,
        k={"type": "integer", "minimum": 1, "maximum": limits.hits, "default": 10},
        lexical=_LEXICAL,
        min_score={"type": "number", "minimum": 0},
        where={
            "description": "What a hit's metadata must be",
            "anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}],
        },
        ids=ids,
        snippets={
            "type": "boolean",
            "default": False,
            "description": f"Whether the first {limits.snippets} hits say which passage matters",
        },
    ) | {
        "description": "A query, a vector, or both",
        "anyOf": [{"required": ["query"]}, {"required": ["vector"]}],
    }


EXPLAIN: Schema = body(["query", "id"], query=TEXT, id=TEXT, lexical=_LEXICAL)
_TERM_SCORE: Schema = {"type": "object"}
EXPLANATION: Schema = body(
    ["score", "terms", "words", "added_share", "lexical", "lexical_share", "marks", "title_marks"],
    score=NUMBER,
    terms={"type": "array", "items": _TERM_SCORE},
    words={"type": "array", "items": _TERM_SCORE},
    added_share=NUMBER,
    lexical={"type": "array", "items": _TERM_SCORE},
    lexical_share=NUMBER,
    marks=_MARKS | {"description": "What in the document's text matters, in order, in characters"},
    title_marks=_MARKS | {"description": "The same of its title"},
)

TERMS_OF: Schema = body(["text"], text=TEXT)
TERMS: Schema = body(
    ["terms", "truncated"],
    terms={
        "type": "array",
        "items": body(
            ["term", "term_id", "weight", "in_text", "source"],
            term=TEXT,
            term_id=_TERM_ID,
            weight=_WEIGHT,
            in_text={"type": "boolean", "description": "If not, the model added it"},
            source=_SOURCE,
        ),
    },
    truncated={"type": "boolean", "description": "Whether the text was longer than is read"},
)

_DOCUMENT: Schema = body(
    ["id", "text"],
    id={"type": "string", "minLength": 1, "maxLength": 2048},
    text=TEXT,
    title=TEXT,
    metadata={"type": "object"},
)
DOCUMENT: Schema = body(
    ["id", "text", "title", "metadata"], **_DOCUMENT["properties"] | {"id": TEXT}
)
DOCUMENTS: Schema = body(["documents"], documents={"type": "array", "items": DOCUMENT})


def upsert(limits: Limits) -> Schema:
    """Return the schema of documents to put into the index."""
    several = {"type": "array", "items": _DOCUMENT, "maxItems": limits.documents}
    return body(["documents"], documents=several)


def ids_of(limits: Limits) -> Schema:
    """Return the schema of documents' ids."""
    return body(["ids"], ids={"type": "array", "items": TEXT, "maxItems": limits.ids})


UPSERTED: Schema = body(
    ["documents", "replaced"], documents={"type": "integer"}, replaced={"type": "integer"}
)
DELETED: Schema = body(
    ["documents", "deleted"], documents={"type": "integer"}, deleted={"type": "integer"}
)
OBJECT: Schema = {"type": "object"}
