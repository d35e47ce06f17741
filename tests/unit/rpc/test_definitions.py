"""One declaration a method: parameters by name and position, their documentation, and how results are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from chain.rpc import methods
from chain.rpc.definitions import (
    METHODS,
    Call,
    Gate,
    HeightNumber,
    Params,
    ReadParams,
    Registry,
    shown,
    unhex,
)
from chain.rpc.document import document
from chain.rpc.errors import ERRORS, NUMBERS, RpcError
from chain.rpc.openrpc import openrpc_document
from chain.rpc.services import ERROR_CODES, Shown, StageSpan


class _Add(ReadParams, frozen=True, kw_only=True):
    optional: Annotated[HeightNumber, msgspec.Meta(description="Perhaps.")] = 5
    first: int
    second: str
    many: list[int] = msgspec.field(default_factory=list)


class _Sum(Shown, frozen=True, kw_only=True):
    total: int


def _registry() -> Registry:
    registry = Registry()

    @registry.add("add", tag="test")
    async def add(call: Call, params: _Add) -> _Sum:
        """Adds.

        In detail.
        """
        return _Sum(total=params.first)

    return registry


def test_a_declaration_says_everything() -> None:
    definition = _registry().get("add")
    assert definition is not None
    assert (definition.summary, definition.description) == ("Adds.", "In detail.")
    assert (definition.params, definition.result) == (_Add, _Sum)
    # Required first, in the order of the declaration; min_height always last.
    assert definition.fields == ("first", "second", "optional", "many", "min_height")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"first":1,"second":"a"}', _Add(first=1, second="a")),
        (b'[1,"a"]', _Add(first=1, second="a")),
        (b'[1,"a",7,[1,2],9]', _Add(first=1, second="a", optional=7, many=[1, 2], min_height=9)),
        (b'{"second":"a","first":1,"min_height":3}', _Add(first=1, second="a", min_height=3)),
    ],
)
def test_parameters_by_name_and_by_position(text: bytes, expected: _Add) -> None:
    definition = _registry().get("add")
    assert definition is not None
    assert definition.decode_params(text) == expected


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[1]", b'[1,"a",-1]', b'[1,"a",5,[],0,0]', b'{"first":1,"second":"a","third":1}', b"5", b"null"],
)
def test_wrong_parameters_are_told(text: bytes) -> None:
    definition = _registry().get("add")
    assert definition is not None
    with pytest.raises(RpcError, match=r"add: .*are \(first, second, optional, many, min_height\)") as caught:
        definition.decode_params(text)
    assert caught.value.number == -32602


def test_every_method_takes_the_same_by_name_and_by_position() -> None:
    for definition in METHODS:
        defaults = {
            field.name: field for field in msgspec.structs.fields(definition.params) if not field.required
        }
        assert set(definition.fields) == {field.name for field in msgspec.structs.fields(definition.params)}
        if set(definition.fields) == set(defaults):
            assert definition.decode_params(b"{}") == definition.decode_params(b"[]") == definition.params()


def test_every_method_is_documented() -> None:
    assert len(METHODS) >= 25
    assert methods.__all__
    for definition in METHODS:
        assert definition.summary.endswith("."), definition.name
        assert definition.tag in ("transactions", "contracts", "blocks", "proofs", "node")
        assert all(number in ERRORS for number in definition.errors)
        assert definition.name == definition.name.lower()


def test_the_openrpc_document_describes_what_is_sent() -> None:
    described = openrpc_document()
    assert [method["name"] for method in described["methods"]] == [definition.name for definition in METHODS]
    text = json.dumps(described)
    assert "base64" not in text
    assert "prefixItems" not in text  # no record travels as an array
    schemas = described["components"]["schemas"]
    for reference in set(text.split('"$ref": "#/components/schemas/')[1:]):
        assert reference.split('"')[0] in schemas
    for definition in METHODS:
        assert "certified_height" in schemas[definition.result.__name__]["properties"]
    (send,) = [method for method in described["methods"] if method["name"] == "send_transaction"]
    assert [param["name"] for param in send["params"]] == ["raw", "wait", "timeout_ms"]
    assert send["params"][0]["required"]


def test_the_page_in_the_docs_is_the_one_the_definitions_make() -> None:
    path = Path(__file__).parents[3] / "docs" / "rpc.md"
    assert path.read_text(encoding="utf-8") == document(), "run: python -m chain.rpc.document > docs/rpc.md"


def test_every_code_of_the_services_has_a_number() -> None:
    assert set(ERROR_CODES) <= set(NUMBERS)
    assert len(NUMBERS) == len(ERRORS)
    assert RpcError.coded("something_new", "text").number == NUMBERS["malformed"]


def test_bytes_are_hex_and_one_value_has_one_text() -> None:
    assert unhex("0x", "x") == b""
    assert unhex("0x00fF", "x") == b"\x00\xff"
    for text in ("", "00", "0X00", "0x0", "0xzz", "0x 00", "0x00 ", "0x0 0", "0x\u0661\u0661", "0x00\n"):
        with pytest.raises(RpcError, match="raw: bytes are written"):
            unhex(text, "raw")
    with pytest.raises(RpcError, match="1 bytes, must be 2"):
        unhex("0x00", "raw", length=2)


def test_results_are_shown_as_plain_json() -> None:
    span = StageSpan(stage="pack", start_us=1, end_us=None)
    assert shown({"a": (b"\x01", [span], None, True, 2**70)}) == {
        "a": ["0x01", [{"stage": "pack", "start_us": 1, "end_us": None}], None, True, 2**70]
    }


def test_a_gate_counts_and_refuses() -> None:
    gate = Gate("things", 1)
    with gate:
        assert gate.busy == 1
        with pytest.raises(RpcError, match="1 things are under way"), gate:
            pass
    assert gate.busy == 0


def test_parameters_are_immutable() -> None:
    assert issubclass(_Add, Params)
    with pytest.raises(AttributeError):
        _Add(first=1, second="a").first = 2  # type: ignore[misc]
