"""The interface of a contract as JSON: what a client needs to call it and to read its events."""

from __future__ import annotations

import json
from typing import Any

from contracts.language.model import ContractModel, Field, Literal, MethodDecl, Mutability, RecordDecl
from contracts.language.types import text


def abi_json(model: ContractModel) -> str:
    """Compact JSON, members and entries in the order of the source.

    `methods[].mutability` is "external" or "view"; `returns` is null where nothing is returned. Constants are listed
    so that clients share their names; bytes stand as "0x..." text.
    """
    init = next((method for method in model.methods.values() if method.mutability is Mutability.INIT), None)
    document = {
        "contract": model.name,
        "doc": model.doc,
        "init": [] if init is None else _parameters(init),
        "methods": [
            {
                "name": method.name,
                "mutability": method.mutability.value,
                "parameters": _parameters(method),
                "returns": None if method.returns is None else text(method.returns),
                "doc": method.doc,
            }
            for method in model.methods.values()
            if method.mutability.is_public
        ],
        "events": [_record(event) for event in model.events.values()],
        "structs": [_record(struct) for struct in model.structs.values()],
        "storage": [
            {
                "name": variable.name,
                "kind": variable.storage.value,
                "key": [text(part) for part in variable.key],
                "value": text(variable.value),
            }
            for variable in model.variables.values()
        ],
        "constants": {name: _json(value) for name, value in model.constants.items()},
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _parameters(method: MethodDecl) -> list[dict[str, str]]:
    return [
        {"name": name, "type": text(kind)}
        for name, kind in zip(method.parameters, method.types, strict=True)
        if kind is not None
    ]


def _record(record: RecordDecl) -> dict[str, Any]:
    return {"name": record.name, "fields": [_field(field) for field in record.fields], "doc": record.doc}


def _field(field: Field) -> dict[str, Any]:
    described: dict[str, Any] = {"name": field.name, "type": text(field.type)}
    if field.has_default:
        described["default"] = _json(field.default)
    return described


def _json(value: Literal) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    return value
