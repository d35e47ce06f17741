"""Contract values as JSON. The one mapping of the API, the command line and the docs.

| value | JSON |
|---|---|
| None, bool, str | null, true or false, string |
| int | number within +-(2^53 - 1), else `{"int": "decimal"}` |
| bytes | `{"bytes": "0x..."}` |
| tuple | array |

The tags make a text mean the same without knowing types: `"0x12"` is a string, `{"bytes": "0x12"}` one byte. A struct
is the array of its fields. (The command line converts by the ABI's types instead, see `chain.cli.arguments`.)
"""

from __future__ import annotations

from typing import Any, Final

from chain.codec import INTEGER_BITS_MAX, VALUE_DEPTH_MAX, Value
from chain.errors import BadInput

NUMBER_MAX: Final = 2**53 - 1
DIGITS_MAX: Final = 80  # 2^256 has 78


def value_to_json(value: Value) -> Any:
    """The tagged JSON form; `value_from_json` is its inverse."""
    kind = type(value)
    if kind is int:
        return value if -NUMBER_MAX <= value <= NUMBER_MAX else {"int": str(value)}  # type: ignore[operator]
    if kind is bytes:
        return {"bytes": "0x" + value.hex()}  # type: ignore[union-attr]
    if kind is tuple:
        return [value_to_json(item) for item in value]  # type: ignore[union-attr]
    return value


def value_from_json(document: Any, where: str = "value", depth: int = 0) -> Value:
    """The value of a tagged JSON form.

    Raises:
        BadInput: `invalid_params`; the text names the place and what would be right.
    """
    if document is None or isinstance(document, bool | str):
        return document
    if isinstance(document, int):
        return bounded_integer(document, where)
    if isinstance(document, list):
        if depth >= VALUE_DEPTH_MAX:
            raise wrong(where, f"nested deeper than {VALUE_DEPTH_MAX}")
        return tuple(value_from_json(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(document))
    if isinstance(document, dict) and len(document) == 1:
        (tag, text), = document.items()
        if tag == "int" and isinstance(text, str):
            return integer_from_text(text, where)
        if tag == "bytes" and isinstance(text, str):
            return bytes_from_text(text, where)
    raise wrong(where, 'must be null, a boolean, an integer, a string, an array, {"int": "..."} or {"bytes": "0x..."}')


def bounded_integer(number: int, where: str) -> int:
    if number.bit_length() > INTEGER_BITS_MAX:
        raise wrong(where, f"an integer of {number.bit_length()} bits, at most {INTEGER_BITS_MAX} are allowed")
    return number


def integer_from_text(text: str, where: str) -> int:
    digits = text[1:] if text[:1] == "-" else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > DIGITS_MAX:
        raise wrong(where, f"an integer as text is decimal digits, at most {DIGITS_MAX}, with - if negative")
    return bounded_integer(int(text), where)


def bytes_from_text(text: str, where: str) -> bytes:
    try:
        value = bytes.fromhex(text[2:]) if text[:2] == "0x" else None
    except ValueError:
        value = None
    if value is None or len(value) * 2 + 2 != len(text):
        raise wrong(where, "bytes are written 0x and an even number of hex digits")
    return value


def wrong(where: str, message: str) -> BadInput:
    return BadInput("invalid_params", f"{where}: {message}")
