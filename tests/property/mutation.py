"""Bends any `Record`, field by field, found by reflection: a field that is added tomorrow is bent tomorrow.

Two kinds of mutant: values (still records, so that they can be signed anew) and bytes (what no encoder of ours writes).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack
import msgspec

from chain.codec import Record, decode, encode

LARGEST: Final = 2**63 - 1
BEYOND: Final = 2**64 - 1  # msgpack's largest; no signed 64-bit integer
NESTED: Final = 3_000  # arrays in arrays, where one value is expected


class Mutant(NamedTuple):
    """`path` names the field without positions ("prepared[].view"), `kind` what was done to it."""

    path: str
    kind: str
    value: Any


class Codec(NamedTuple):
    """How to look into a field of bytes."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def codec_of(kind: type[Record]) -> Codec:
    return Codec(lambda data: decode(kind, data), encode)


class Others(NamedTuple):
    """What a liar can put in place of a genuine value of the same shape."""

    identities: Sequence[bytes] = ()  # of 20 bytes
    digests: Sequence[bytes] = ()  # of 32 bytes: stale ones, of other things
    signatures: Sequence[bytes] = ()  # of 64 bytes: given for something else
    records: Mapping[type[Record], Record] = {}  # in place of an absent one
    encoded: Mapping[tuple[type[Record], str], Codec] = {}  # bytes fields that hold something encoded


def mutants(
    value: Any, others: Others, *, path: str = "", of: tuple[type[Record], str] | None = None
) -> Iterator[Mutant]:
    """Everything that can be said wrongly about `value`, one thing at a time; none equals it."""
    for mutant in _mutants(value, others, path, of):
        if mutant.value != value or type(mutant.value) is not type(value):
            yield mutant


def _mutants(value: Any, others: Others, path: str, of: tuple[type[Record], str] | None) -> Iterator[Mutant]:
    match value:
        case bool():
            yield Mutant(path, "negated", not value)
        case int():
            numbers = {"zero": 0, "one less": value - 1, "one more": value + 1, "negative": -1, "lowest": -LARGEST - 1}
            for kind, number in {**numbers, "largest": LARGEST, "beyond": BEYOND}.items():
                yield Mutant(path, kind, number)
        case bytes():
            yield from _bytes(value, others, path, of)
        case str():
            for kind, text in {"empty": "", "longer": value + "x", "large": "x" * 70_000}.items():
                yield Mutant(path, kind, text)
        case tuple():
            yield from _tuple(value, others, path, of)
        case Record():
            for field in msgspec.structs.fields(type(value)):
                at = f"{path}.{field.name}" if path else field.name
                held = getattr(value, field.name)
                inner = mutants(held, others, path=at, of=(type(value), field.name))
                for mutant in (*inner, *_optional(field.type, held, others, at)):
                    changed = msgspec.structs.replace(value, **{field.name: mutant.value})
                    yield Mutant(mutant.path, mutant.kind, changed)
        case None:
            pass
        case _:
            raise TypeError(f"{path}: no way to bend a {type(value).__name__}: teach it here")


def _optional(kind: Any, held: Any, others: Others, path: str) -> Iterator[Mutant]:
    """The other of "there" and "not there"."""
    if not isinstance(kind, types.UnionType) and typing.get_origin(kind) is not typing.Union:
        return
    if held is not None:
        yield Mutant(path, "absent", None)
        return
    for option in typing.get_args(kind):
        if option in others.records:
            yield Mutant(path, "present", others.records[option])


def _bytes(value: bytes, others: Others, path: str, of: tuple[type[Record], str] | None) -> Iterator[Mutant]:
    yield Mutant(path, "empty", b"")
    yield Mutant(path, "shorter", value[:-1])
    yield Mutant(path, "longer", value + b"\0")
    yield Mutant(path, "large", value + bytes(70_000))
    if value:
        yield Mutant(path, "zeroes", bytes(len(value)))
        yield Mutant(path, "flipped", bytes((value[0] ^ 1,)) + value[1:])
        yield Mutant(path, "reversed", value[::-1])
    same_length = {20: ("another identity", others.identities), 32: ("stale", others.digests),
                   64: ("of something else", others.signatures)}  # fmt: skip
    kind, choices = same_length.get(len(value), ("", ()))
    for choice in choices:
        yield Mutant(path, kind, choice)
    inner = others.encoded.get(of) if of is not None else None
    if inner is not None and value:
        for mutant in mutants(inner.decode(value), others):
            yield Mutant(f"{path}>{mutant.path}", mutant.kind, inner.encode(mutant.value))


def _tuple(
    value: tuple[Any, ...], others: Others, path: str, of: tuple[type[Record], str] | None
) -> Iterator[Mutant]:
    yield Mutant(path, "no entries", ())
    if value:
        yield Mutant(path, "first dropped", value[1:])
        yield Mutant(path, "last dropped", value[:-1])
        yield Mutant(path, "first twice", (value[0], *value))
        yield Mutant(path, "last twice", (*value, value[-1]))
        yield Mutant(path, "all twice", value + value)
        yield Mutant(path, "reversed", value[::-1])
        yield Mutant(path, "one thousand", value * (1_000 // len(value)))
    for at in sorted({0, len(value) - 1}) if value else ():
        for mutant in mutants(value[at], others, path=f"{path}[]", of=of):
            changed = (*value[:at], mutant.value, *value[at + 1 :])
            yield Mutant(mutant.path, mutant.kind, changed)


# --- bytes that no encoder of ours writes ---


class _Raw(NamedTuple):
    """Bytes to be written as they are."""

    data: bytes


def bent_bytes(value: Any) -> Iterator[Mutant]:
    """Encodings of `value` (a record, or a tuple) that are none: all of them must be refused by `decode`."""
    data = encode(value)
    tree = _tree(value)
    for cut in sorted({*range(min(len(data), 12)), len(data) // 2, len(data) - 1}):
        yield Mutant("", "truncated", data[:cut])
    yield Mutant("", "trailing bytes", data + b"\0")
    yield Mutant("", "twice", data + data)
    for where in _places(tree):
        node = _at(tree, where)
        path = ".".join(map(str, where))
        for kind, raw in _wrong(node):
            yield Mutant(path, kind, _write(_with(tree, where, _Raw(raw))))
        if isinstance(node, list) and _is_record(value, where):
            yield Mutant(path, "field missing", _write(_with(tree, where, node[:-1])))
            yield Mutant(path, "field too many", _write(_with(tree, where, [*node, 0])))


def _wrong(node: Any) -> Iterator[tuple[str, bytes]]:
    yield "float", msgpack.packb(1.5)
    yield "map", b"\x80"
    yield "map that claims to be large", b"\xdf\xff\xff\xff\xff"
    yield "extension", b"\xd4\x01\x01"
    yield "reserved byte", b"\xc1"
    yield "nested too deep", b"\x91" * NESTED + b"\xc0"
    match node:
        case None:
            yield "integer where nothing is", b"\x01"
        case bool():
            yield "integer for a truth value", b"\x01"
        case int():
            yield "text for a number", b"\xa1x"
            yield "nothing for a number", b"\xc0"
            yield "truth value for a number", b"\xc3"
            yield "beyond 64 bits", b"\xc7\x09\x01" + b"\x7f" * 9
            if 0 <= node < 2**63:
                yield "wider than needed", b"\xd3" + node.to_bytes(8, "big")
        case bytes():
            yield "number for bytes", b"\x01"
            yield "text for bytes", b"\xa0"
            yield "nothing for bytes", b"\xc0"
            yield "wider than needed", b"\xc6" + len(node).to_bytes(4, "big") + node
            yield "claims to be large", b"\xc6\xff\xff\xff\xff" + node
        case str():
            yield "bytes for text", b"\xc4\x00"
            yield "not UTF-8", b"\xa1\xff"
            yield "wider than needed", b"\xdb" + len(node.encode()).to_bytes(4, "big") + node.encode()
        case list():
            yield "number for a list", b"\x01"
            yield "claims to be large", b"\xdd\xff\xff\xff\xff" + b"".join(map(_write, node))
            yield "wider than needed", b"\xdd" + len(node).to_bytes(4, "big") + b"".join(map(_write, node))


def _tree(value: Any) -> Any:
    if isinstance(value, Record):
        return [_tree(getattr(value, name)) for name in value.__struct_fields__]
    return [_tree(item) for item in value] if isinstance(value, tuple) else value


def _places(tree: Any, at: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Every node; of a long list the first and the last entry."""
    yield at
    if isinstance(tree, list):
        indices = range(len(tree)) if len(tree) <= 12 else (0, len(tree) - 1)
        for index in indices:
            yield from _places(tree[index], (*at, index))


def _at(tree: Any, where: tuple[int, ...]) -> Any:
    for index in where:
        tree = tree[index]
    return tree


def _with(tree: Any, where: tuple[int, ...], node: Any) -> Any:
    if not where:
        return node
    index, *rest = where
    return [*tree[:index], _with(tree[index], tuple(rest), node), *tree[index + 1 :]]


def _is_record(value: Any, where: tuple[int, ...]) -> bool:
    """True if a list of fixed length stands there: a record (or the outermost tuple)."""
    for index in where:
        value = getattr(value, value.__struct_fields__[index]) if isinstance(value, Record) else value[index]
    return isinstance(value, Record) or not where


def _write(node: Any) -> bytes:
    if isinstance(node, _Raw):
        return node.data
    if isinstance(node, list):
        size = len(node)
        head = bytes((0x90 | size,)) if size < 16 else b"\xdc" + size.to_bytes(2, "big")
        return head + b"".join(map(_write, node))
    return bytes(msgpack.packb(node, use_bin_type=True))
