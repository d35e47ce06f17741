"""Arguments typed at a terminal become values of the ABI's types, or an error that says what would be right."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chain.cli.arguments import convert_arguments, plain
from chain.client.abi import Field, parse_abi, parse_type
from chain.codec import Value
from chain.errors import BadInput
from contracts.language.types import text

ALICE = b"\xa1" * 20
ABI = parse_abi(
    {
        "contract": "Book",
        "init": [],
        "methods": [],
        "events": [{"name": "Added", "fields": [{"name": "entry", "type": "Entry"}]}],
        "structs": [
            {
                "name": "Entry",
                "fields": [{"name": "title", "type": "str"}, {"name": "marks", "type": "tuple[Mark, ...]"}],
            },
            {"name": "Mark", "fields": [{"name": "by", "type": "Address"}, {"name": "note", "type": "bytes | None"}]},
        ],
        "storage": [{"name": "entries", "kind": "Map", "key": ["bytes", "Address"], "value": "Entry"}],
        "constants": {},
    }
)


async def _address_of(name: str) -> bytes:
    if name != "alice":
        raise BadInput("invalid_params", f"{name!r} names no account")
    return ALICE


def _convert(kind: str, given: str) -> Value:
    fields = (Field("x", parse_type(kind)),)
    (value,) = asyncio.run(convert_arguments([given], fields, abi=ABI, method="m", address_of=_address_of))
    return value


GOOD: list[tuple[str, str, Value]] = [
    ("int", "5", 5), ("int", "-5", -5), ("int", "0xff", 255), ("int", str(2**200), 2**200), ("bool", "true", True),
    ("bool", "false", False), ("str", "", ""), ("str", "5", "5"), ("str", "null", "null"),
    ("bytes", "0x00ff", b"\x00\xff"),
    ("Address", "0x" + "11" * 20, b"\x11" * 20), ("Address", "alice", ALICE), ("int | None", "null", None),
    ("int | None", "7", 7), ("tuple[int, str]", '[1, "a"]', (1, "a")), ("tuple[int, ...]", "[]", ()),
    ("tuple[int, ...]", '["18446744073709551616"]', (2**64,)), ("tuple[bool]", "[true]", (True,)),
    ("tuple[Address, ...]", '["alice"]', (ALICE,)),
    ("Entry", '{"title": "t", "marks": [{"by": "alice", "note": "0x01"}, ["alice", null]]}',
     ("t", ((ALICE, b"\x01"), (ALICE, None)))),
    ("Entry | None", "null", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "value"), GOOD, ids=lambda item: repr(item)[:30])
def test_conversions(kind: str, given: str, value: Value) -> None:
    assert _convert(kind, given) == value
    assert type(_convert(kind, given)) is type(value)


BAD = [
    ("int", "5.0", "decimal digits"), ("int", "", "decimal digits"), ("int", "0x", "decimal digits"),
    ("int", "0xzz", "decimal digits"), ("int", "0x-5", "decimal digits"), ("int", "9" * 79, "bits"),
    ("bool", "True", "true or false"), ("bool", "1", "true or false"), ("bytes", "00", "0x"), ("bytes", "0x0", "0x"),
    ("Address", "0x00", "40 hex digits"), ("Address", "bob", "names no account"), ("tuple[int, str]", "[1]", "tuple"),
    ("tuple[int, str]", "1,a", "JSON"), ("tuple[int, ...]", "[true]", "int"), ("tuple[int, ...]", "[1.5]", "int"),
    ("tuple[int, ...]", "[null]", "int"), ("tuple[bool]", "[1]", "true or false"), ("tuple[str]", "[1]", "str"),
    ("Entry", "[]", "Entry"), ("Entry", '{"title": "t"}', "marks"), ("Entry", '{"title":"t","marks":[],"x":1}', "x"),
    ("Entry", '{"title": "t", "marks": [["bob", null]]}', "names no account"), ("Unknown", "[]", "Unknown"),
    ("tuple[int, ...]", "[" * 100_000, "JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "right"), BAD, ids=lambda item: repr(item)[:30])
def test_what_does_not_fit_says_what_would(kind: str, given: str, right: str) -> None:
    with pytest.raises(BadInput, match=right) as caught:
        _convert(kind, given)
    assert len(str(caught.value)) < 300


def test_files(tmp_path: Path) -> None:
    binary, words = tmp_path / "binary", tmp_path / "words"
    binary.write_bytes(b"\xff\x00")
    words.write_text(" 12\n", encoding="utf-8")
    assert _convert("bytes", f"@{binary}") == b"\xff\x00"
    assert _convert("str", f"@{words}") == " 12\n"
    assert _convert("int", f"@{words}") == 12
    with pytest.raises(BadInput, match="not UTF-8"):
        _convert("str", f"@{binary}")
    with pytest.raises(BadInput, match="cannot be read"):
        _convert("str", f"@{tmp_path / 'nothing'}")


def test_the_number_of_arguments_is_told_with_the_signature() -> None:
    fields = (Field("title", parse_type("str")), Field("pages", parse_type("int"), required=False))
    for count in (0, 3):
        with pytest.raises(BadInput, match=r"add\(title: str, pages: int\) takes 2"):
            asyncio.run(convert_arguments(["1"] * count, fields, abi=ABI, method="add", address_of=_address_of))
    assert asyncio.run(convert_arguments(["1"], fields, abi=ABI, method="add", address_of=_address_of)) == ("1",)


@pytest.mark.parametrize(
    "kind", ["int", "tuple[int]", "tuple[int, str]", "tuple[bytes, ...]", "Mark | None", "tuple[tuple[int, ...], Mark]"]
)
def test_types_are_read_as_they_are_spelled(kind: str) -> None:
    assert text(parse_type(kind)) == kind


@pytest.mark.parametrize("kind", ["", "5", "a.b", "tuple", "list[int]", "int | str", "f()", "tuple[", "tuple[...]"])
def test_what_is_no_type(kind: str) -> None:
    if kind == "tuple":
        assert text(parse_type(kind)) == "tuple"  # a struct may have any name
        return
    with pytest.raises(ValueError, match="is no type"):
        parse_type(kind)


def test_values_with_names() -> None:
    entry = ("t", ((ALICE, None),))
    named = {"title": "t", "marks": ({"by": ALICE, "note": None},)}
    assert ABI.named(parse_type("Entry"), entry) == named
    assert ABI.named(parse_type("tuple[Entry, int]"), (entry, 5)) == (named, 5)
    assert ABI.named(parse_type("Entry | None"), None) is None
    assert ABI.named(parse_type("Entry"), "something else") == "something else"
    assert ABI.event_fields("Added", (entry,)) == {"entry": named}
    assert ABI.event_fields("Added", ()) is None
    assert ABI.storage["entries"].kind == "Map"
    with pytest.raises(BadInput, match="has no method 'x'"):
        ABI.method("x")
    documents: list[Any] = [{}, {"contract": "C"}, {"contract": "C", "init": 5}]
    for document in documents:
        with pytest.raises(BadInput, match="not a contract's ABI"):
            parse_abi(document)


def test_values_for_output() -> None:
    assert plain({"a": (b"\x01", 2**53, 5, True, None)}) == {"a": ["0x01", str(2**53), 5, True, None]}
