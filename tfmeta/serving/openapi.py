"""An OpenAPI description of the REST port."""

from typing import Any

_ERRORS = {"400": "the request does not fit the API, the signature or the graph",
           "404": "no such model or version", "429": "too many requests at the same time",
           "503": "the server is stopping", "504": "the request waited for too long"}


def document() -> dict[str, Any]:
    """Returns the description (OpenAPI 3.0) as one JSON object."""
    paths: dict[str, Any] = {}
    for suffix, parameters in (("", []), ("/versions/{version}", ["version"]), ("/labels/{label}", ["label"])):
        base = f"/v1/models/{{model}}{suffix}"
        refs = [{"$ref": f"#/components/parameters/{name}"} for name in ("model", *parameters)]
        paths[f"{base}:predict"] = {"parameters": refs, "post": _predict(suffix)}
        paths[base] = {"parameters": refs, "get": _get(
            f"status{_id(suffix)}", "States of a model's versions, newest first", "Status", "400", "404")}
        paths[f"{base}/metadata"] = {"parameters": refs, "get": _get(
            f"metadata{_id(suffix)}", "Signatures of a version", "Metadata", "400", "404")}
    paths["/healthz"] = {"get": {**_get("health", "Whether a model is loaded", "Health"), "security": []}}
    paths["/healthz"]["get"]["responses"]["503"] = _content("No model is loaded", "Health")
    paths["/monitoring/prometheus/metrics"] = {"get": {
        "operationId": "metrics", "summary": "Metrics in Prometheus' text format", "responses": {
            "200": {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}}}}
    return {
        "openapi": "3.0.3",
        "info": {"title": "tfmeta embedded model server", "version": "1",
                 "description": "TensorFlow Serving's REST API, with health, metrics and this description beside it."},
        "paths": paths,
        "components": {"parameters": _PARAMETERS, "schemas": _SCHEMAS, "responses": {
            code: _content(text[:1].upper() + text[1:], "Error") for code, text in _ERRORS.items()}}}


def _id(suffix: str) -> str:
    return {"": "", "/versions/{version}": "OfVersion", "/labels/{label}": "OfLabel"}[suffix]


def _content(description: str, schema: str) -> dict[str, Any]:
    return {"description": description,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


def _refs(*codes: str) -> dict[str, Any]:
    return {code: {"$ref": f"#/components/responses/{code}"} for code in codes}


def _get(operation: str, summary: str, schema: str, *errors: str) -> dict[str, Any]:
    return {"operationId": operation, "summary": summary,
            "responses": {"200": _content(summary, schema), **_refs(*errors)}}


def _predict(suffix: str) -> dict[str, Any]:
    return {"operationId": f"predict{_id(suffix)}", "summary": "Runs a signature",
            "requestBody": {"required": True, **{k: v for k, v in _content("", "PredictRequest").items()
                                                 if k == "content"}},
            "responses": {"200": _content("The signature's outputs", "PredictReply"), **_refs(*_ERRORS)}}


_PARAMETERS = {
    "model": {"name": "model", "in": "path", "required": True,
              "schema": {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_.-]+$"}},
    "version": {"name": "version", "in": "path", "required": True,
                "schema": {"type": "integer", "format": "int64", "minimum": 0}},
    "label": {"name": "label", "in": "path", "required": True,
              "schema": {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_.-]+$"}},
}
_NAME = {"type": "string", "description": "Key of the signature; empty or absent means serving_default"}
_VALUE = {"description": 'A number, boolean, string, {"b64": "..."} for bytes, or lists of them, alike in length at '
                         'each level'}
_SCHEMAS: dict[str, Any] = {
    "Tensor": _VALUE,
    "PredictRequest": {"oneOf": [
        {"type": "object", "required": ["instances"], "not": {"required": ["inputs"]}, "properties": {
            "signature_name": _NAME, "instances": {
                "type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Tensor"},
                "description": "Rows: objects of one value per input, or bare values where there is one input"}}},
        {"type": "object", "required": ["inputs"], "not": {"required": ["instances"]}, "properties": {
            "signature_name": _NAME, "inputs": {
                "allOf": [{"$ref": "#/components/schemas/Tensor"}],
                "description": "Columns: an object of one tensor per input, or the tensor where there is one"}}}]},
    "PredictReply": {"oneOf": [
        {"type": "object", "required": ["predictions"], "additionalProperties": False, "properties": {
            "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}}}},
        {"type": "object", "required": ["outputs"], "additionalProperties": False, "properties": {
            "outputs": {"$ref": "#/components/schemas/Tensor"}}}]},
    "Error": {"type": "object", "required": ["error"], "additionalProperties": False,
              "properties": {"error": {"type": "string"}}},
    "Status": {"type": "object", "required": ["model_version_status"], "properties": {"model_version_status": {
        "type": "array", "minItems": 1, "items": {
            "type": "object", "required": ["version", "state", "status"], "properties": {
                "version": {"type": "string", "pattern": "^[0-9]+$"},
                "state": {"type": "string", "enum": ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]},
                "status": {"type": "object", "required": ["error_code", "error_message"], "properties": {
                    "error_code": {"type": "string"}, "error_message": {"type": "string"}}}}}}}},
    "Metadata": {"type": "object", "required": ["model_spec", "metadata"], "properties": {
        "model_spec": {"type": "object", "required": ["name", "version"], "properties": {
            "name": {"type": "string"}, "version": {"type": "string"}, "signature_name": {"type": "string"}}},
        "metadata": {"type": "object", "required": ["signature_def"], "properties": {
            "signature_def": {"type": "object"}}}}},
    "Health": {"type": "object", "required": ["status", "models"], "properties": {
        "status": {"type": "string"},
        "models": {"type": "object", "additionalProperties": {"type": "integer"}}}},
}
