"""Arguments of contract methods as they are typed at a terminal, converted by the types that the ABI gives.

| type | text |
|---|---|
| int | decimal digits, or 0x-hex |
| bool | true, false |
| str | as it is |
| bytes | 0x-hex |
| Address | 0x-hex, the name of an account, or the name of a contract |
| tuple, Struct | JSON: an array; a struct also an object by field names; bytes and addresses as above |
| T or None | null, or the text of T |

`@FILE` stands for the contents of a file: its bytes for bytes, its text for everything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from typer.core import TyperCommand

from chain.client.abi import Abi, Fields
from chain.codec import Value
from chain.errors import BadInput
from chain.rpc.values import NUMBER_MAX, bounded_integer, bytes_from_text, integer_from_text
from chain.types import ADDRESS_BYTES
from contracts.language.types import Optional, Scalar, StructOf, TupleOf, Type, text
from contracts.language.types import Sequence as SequenceOf

FILE_BYTES_MAX: Final = 256 * 1024
HEX_DIGITS_MAX: Final = 64
NEGATIVE: Final = re.compile("-[0-9]+")

AddressOf = Callable[[str], Awaitable[bytes]]


class TakesNumbers(TyperCommand):
    """A command with arguments of contract methods: -5 is a number, not an option. `--` before it is not needed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = any(NEGATIVE.fullmatch(word) for word in args)
        return super().parse_args(ctx, args)



async def convert_arguments(
    texts: Sequence[str], parameters: Fields, *, abi: Abi, method: str, address_of: AddressOf
) -> tuple[Value, ...]:
    """The values of a call's arguments.

    Raises:
        BadInput: names the parameter, what was given and what would be right.
    """
    required = sum(parameter.required for parameter in parameters)
    if not required <= len(texts) <= len(parameters):
        signature = ", ".join(f"{parameter.name}: {text(parameter.type)}" for parameter in parameters)
        raise BadInput("invalid_params", f"{len(texts)} arguments given, {method}({signature}) takes {len(parameters)}")
    converter = _Converter(abi, address_of)
    return tuple(
        [
            await converter.from_text(given, parameter.type, parameter.name)
            for given, parameter in zip(texts, parameters, strict=False)
        ]
    )


class _Converter:
    def __init__(self, abi: Abi, address_of: AddressOf) -> None:
        self._abi = abi
        self._address_of = address_of

    async def from_text(self, given: str, kind: Type, where: str) -> Value:
        if given.startswith("@"):
            data = _read(Path(given[1:]), where)
            if kind == Scalar("bytes"):
                return data
            given = _utf8(data, where)
            if kind != Scalar("str"):
                given = given.strip()
        match kind:
            case Optional(inner):
                return None if given == "null" else await self.from_text(given, inner, where)
            case Scalar("str"):
                return given
            case Scalar("int"):
                return _integer(given, where)
            case Scalar("bool"):
                if given not in ("true", "false"):
                    raise _wrong(where, given, "true or false")
                return given == "true"
            case Scalar("bytes"):
                return bytes_from_text(given, where)
            case Scalar(_):
                return await self._address(given, where)
            case _:
                try:
                    document = json.loads(given)
                except (ValueError, RecursionError):
                    raise _wrong(where, given, f"JSON for {text(kind)}") from None
                return await self.from_json(document, kind, where)

    async def from_json(self, document: Any, kind: Type, where: str) -> Value:
        match kind:
            case Optional(inner):
                return None if document is None else await self.from_json(document, inner, where)
            case Scalar("bool"):
                if not isinstance(document, bool):
                    raise _wrong(where, document, "true or false")
                return document
            case Scalar("int"):
                if isinstance(document, int) and not isinstance(document, bool):
                    return bounded_integer(document, where)
                if isinstance(document, str):
                    return _integer(document, where)
            case Scalar("str"):
                if isinstance(document, str):
                    return document
            case Scalar("bytes"):
                if isinstance(document, str):
                    return bytes_from_text(document, where)
            case Scalar(_):
                if isinstance(document, str):
                    return await self._address(document, where)
            case TupleOf(items) if isinstance(document, list) and len(document) == len(items):
                return await self._items(document, items, where)
            case SequenceOf(item) if isinstance(document, list):
                return await self._items(document, [item] * len(document), where)
            case StructOf(name) if name in self._abi.structs:
                return await self._struct(document, name, where)
        raise _wrong(where, document, text(kind))

    async def _items(self, document: list[Any], kinds: Sequence[Type], where: str) -> tuple[Value, ...]:
        pairs = enumerate(zip(document, kinds, strict=True))
        return tuple([await self.from_json(item, kind, f"{where}[{at}]") for at, (item, kind) in pairs])

    async def _struct(self, document: Any, name: str, where: str) -> Value:
        fields = self._abi.structs[name]
        if isinstance(document, Mapping):
            for given in document:
                if given not in {field.name for field in fields}:
                    raise _wrong(f"{where}.{given}", document[given], f"absent: {name} has no such field")
            for field in fields:
                if field.name not in document:
                    raise _wrong(f"{where}.{field.name}", None, f"given: {name} needs it")
            document = [document[field.name] for field in fields]
        if not isinstance(document, list) or len(document) != len(fields):
            names = ", ".join(field.name for field in fields)
            raise _wrong(where, document, f"a {name}: an object or array of ({names})")
        return tuple(
            [
                await self.from_json(item, field.type, f"{where}.{field.name}")
                for item, field in zip(document, fields, strict=True)
            ]
        )

    async def _address(self, given: str, where: str) -> bytes:
        if not given.startswith("0x"):
            return await self._address_of(given)
        address = bytes_from_text(given, where)
        if len(address) != ADDRESS_BYTES:
            raise _wrong(where, given, "an address: 0x and 40 hex digits, or the name of an account or contract")
        return address


def plain(value: Any) -> Any:
    """A value for output as JSON: bytes as 0x-hex, integers beyond 2^53 as decimal text, tuples as arrays."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > NUMBER_MAX:
        return str(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return value


def _integer(given: str, where: str) -> int:
    if given.startswith("0x") and 2 < len(given) <= HEX_DIGITS_MAX + 2:
        try:
            return int(given, 16)
        except ValueError:
            raise _wrong(where, given, "an integer: decimal digits, or 0x and hex digits") from None
    return integer_from_text(given, where)


def _read(path: Path, where: str) -> bytes:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise BadInput("invalid_params", f"{where}: {path} is over {FILE_BYTES_MAX} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BadInput("invalid_params", f"{where}: {path} cannot be read: {error.strerror}") from None


def _utf8(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput("invalid_params", f"{where}: the file is not UTF-8 text") from None


def _wrong(where: str, given: Any, right: str) -> BadInput:
    shown = json.dumps(given)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return BadInput("invalid_params", f"{where} is {shown}, must be {right}")
