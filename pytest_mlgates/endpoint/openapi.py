"""The server's own OpenAPI 3.1 document, made from the signature of the version in service."""

from __future__ import annotations

from typing import Any

_JSON_TYPES: dict[str, dict[str, Any]] = {
    "double": {"type": ["number", "null"]},
    "float": {"type": ["number", "null"]},
    "long": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "integer": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "boolean": {"type": "boolean"},
    "string": {"type": ["string", "null"]},
    "datetime": {"type": ["string", "null"], "format": "date-time"},
}
_REQUEST_ID = {
    "name": "x-request-id",
    "in": "header",
    "description": "Answered as it came where it is 1 to 128 of A-Z a-z 0-9 . _ : / + = @ -; anything else gives way to one of ours.",
    "schema": {"type": "string"},
}


def document(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI document for what ``/schema`` answers."""
    columns = schema["inputSignature"]
    row: dict[str, Any] = {"type": "array"}
    names: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    if columns:  # a model without a signature takes what comes
        length = {"minItems": len(columns), "maxItems": len(columns)}
        row |= {"prefixItems": [_JSON_TYPES.get(c["type"], {}) for c in columns], **length}
        names = {"type": "array", "prefixItems": [{"const": c["name"]} for c in columns], **length}
    data = {"type": "array", "items": row, "minItems": 1}
    tutorial = {
        "type": "object",
        "required": ["input_data"],
        "properties": {
            "input_data": {"type": "object", "required": ["columns", "data"], "properties": {"columns": names, "data": data}}
        },
    }
    fabric = {
        "type": "object",
        "required": ["inputs"],
        "properties": {"formatType": {"const": "dataframe"}, "orientation": {"const": "values"}, "inputs": data},
    }
    answers = {"200": _answer("Predictions.", _PREDICTIONS)}
    for status, text in _REFUSALS.items():
        answers[status] = _answer(text, {"$ref": "#/components/schemas/Error"})
    score = {
        "operationId": "score",
        "parameters": [_REQUEST_ID],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": [tutorial, fabric]}}}},
        "responses": answers,
    }
    pages = {
        path: {
            "get": {
                "operationId": name,
                "responses": {"200": {"description": text}, "503": {"description": "No model loaded."}},
            }
        }
        for path, name, text in (
            ("/health", "health", "Versions in service."),
            ("/schema", "schema", "Input columns of the version in service."),
            ("/metrics", "metrics", "Prometheus text."),
        )
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{schema['model_name']} endpoint", "version": str(schema["model_version"])},
        "paths": {"/score": {"post": score}, **pages},
        "components": {"schemas": {"Error": _ERROR}},
    }


_ERROR = {
    "type": "object",
    "required": ["errorCode", "message"],
    "properties": {
        "errorCode": {"type": "string"},
        "message": {"type": "string"},
        "requestId": {"type": "string"},
        "column": {"type": "string"},
        "row": {"type": "integer"},
    },
}
_PREDICTIONS = {
    "type": "object",
    "required": ["predictions"],
    "properties": {
        "predictions": {"type": "array"},
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "latency_ms": {"type": "number"},
    },
}
_REFUSALS = {
    "400": "Not JSON.",
    "401": "No or a wrong bearer token.",
    "413": "Too large, or too many rows.",
    "422": "Does not fit the model's signature; column and row are named.",
    "503": "No model loaded yet.",
}


def _answer(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}
