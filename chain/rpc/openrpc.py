"""The OpenRPC document and docs/rpc.md, both read off the method definitions."""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from chain import __doc__ as chain_doc
from chain.rpc.definitions import METHODS, MethodDefinition
from chain.rpc.errors import ERRORS

OPENRPC_VERSION: Final = "1.3.2"
API_VERSION: Final = "1.0.0"
_REFERENCE: Final = "#/components/schemas/{name}"
_HEX_SCHEMA: Final = {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}
_CERTIFIED_HEIGHT: Final = {
    "type": "integer",
    "description": "The answer speaks for all blocks up to this height.",
}


@functools.cache
def openrpc_document() -> dict[str, Any]:
    """The document of `rpc.discover`; built once, treat it as read-only."""
    results = [definition.result for definition in METHODS]
    parameters = [definition.params for definition in METHODS]
    _, components = msgspec.json.schema_components([*results, *parameters], ref_template=_REFERENCE)
    schemas = {name: _as_sent(schema) for name, schema in components.items()}
    for result in results:
        schema = schemas[result.__name__]
        schema["properties"] = {**schema["properties"], "certified_height": _CERTIFIED_HEIGHT}
    methods = [_method(definition, schemas) for definition in METHODS]
    for kind in parameters:
        schemas.pop(kind.__name__, None)  # they stand with their methods, one by one
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {"title": "Headrace node", "version": API_VERSION, "description": (chain_doc or "").strip()},
        "methods": methods,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _method(definition: MethodDefinition, schemas: dict[str, Any]) -> dict[str, Any]:
    described = schemas[definition.params.__name__]
    required = set(described.get("required", ()))
    params = []
    for name in definition.fields:
        schema = dict(described["properties"][name])
        param: dict[str, Any] = {"name": name, "required": name in required}
        if "description" in schema:
            param["description"] = schema.pop("description")
        params.append({**param, "schema": schema})
    document: dict[str, Any] = {
        "name": definition.name,
        "summary": definition.summary,
        "tags": [{"name": definition.tag}],
        "paramStructure": "either",
        "params": params,
        "result": {
            "name": definition.result.__name__,
            "schema": {"$ref": _REFERENCE.format(name=definition.result.__name__)},
        },
        "errors": [{"code": number, "message": ERRORS[number][1]} for number in definition.errors],
    }
    if definition.description:
        document["description"] = definition.description
    return document


def _as_sent(schema: Any) -> Any:
    """What msgspec says about types, put right where the API differs: bytes are 0x-hex, records are objects."""
    if isinstance(schema, list):
        return [_as_sent(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("contentEncoding") == "base64":
        return {**{k: v for k, v in schema.items() if k not in ("contentEncoding", "type")}, **_HEX_SCHEMA}
    return {name: _as_sent(item) for name, item in schema.items()}
