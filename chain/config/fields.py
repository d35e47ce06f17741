"""Fields of a configuration table: type, unit, range, and the one way to refuse a value."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeVar

from chain.errors import ConfigError

T = TypeVar("T")

TEXT_CHARS_MAX: Final = 128
_HOST: Final = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.\-]{0,251}[0-9A-Za-z])?|[0-9A-Fa-f:]{2,39}")
_CHECK: Final = "check"
_HELP: Final = "help"


def refuse(name: str, value: object, wanted: str) -> NoReturn:
    """Raises ConfigError: field, value, what would be right."""
    shown = repr(value)
    raise ConfigError(f"{name} is {shown if len(shown) <= 80 else shown[:77] + '...'}, must be {wanted}")


def integer(help_text: str, *, low: int, high: int, unit: str, default: int | None = None) -> Any:
    """A whole number of `unit`, `low..high`."""
    wanted = f"a whole number of {unit}, {low}..{high}"

    def check(name: str, value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            refuse(name, value, wanted)
        return value

    return _field(check, f"{help_text}; {wanted}", default)


def boolean(help_text: str, *, default: bool) -> Any:
    """True or false."""

    def check(name: str, value: object) -> bool:
        if type(value) is not bool:
            refuse(name, value, "true or false")
        return value

    return _field(check, f"{help_text}; true or false", default)


def text(help_text: str, *, default: str | None = None) -> Any:
    """Printable characters on one line."""
    wanted = f"1..{TEXT_CHARS_MAX} printable characters"

    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARS_MAX or not value.isprintable():
            refuse(name, value, wanted)
        return value

    return _field(check, f"{help_text}; {wanted}", default)


def host(help_text: str, *, default: str | None = None) -> Any:
    """A DNS name or an IP address."""
    wanted = "a host name or an IP address"

    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or not _HOST.fullmatch(value):
            refuse(name, value, wanted)
        return value

    return _field(check, f"{help_text}; {wanted}", default)


def choice(help_text: str, *, allowed: tuple[str, ...], default: str | None = None) -> Any:
    """One of a few words."""
    wanted = "one of " + ", ".join(allowed)

    def check(name: str, value: object) -> str:
        if value not in allowed:
            refuse(name, value, wanted)
        return str(value)

    return _field(check, f"{help_text}; {wanted}", default)


def hex_bytes(help_text: str, *, length: int) -> Any:
    """Lower-case hex digits of a fixed number of bytes; `bytes` in the dataclass."""
    wanted = f"{2 * length} lower-case hex digits ({length} bytes)"

    def check(name: str, value: object) -> bytes:
        try:
            decoded = bytes.fromhex(value) if isinstance(value, str) else b""
        except ValueError:
            decoded = b""
        if len(decoded) != length or decoded.hex() != value:
            refuse(name, value, wanted)
        return decoded

    return _field(check, f"{help_text}; {wanted}", None)


def _field(check: Callable[[str, object], Any], help_text: str, default: object) -> Any:
    metadata = {_CHECK: check, _HELP: help_text}
    if default is None:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read_table(kind: type[T], value: object, name: str) -> T:
    """The dataclass `kind` from a TOML table; every key is checked, an unknown one refused.

    Raises:
        ConfigError: names the field, its value and what would be right.
    """
    if not isinstance(value, Mapping):
        refuse(name, value, "a table")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in value:
        if key not in fields:
            refuse(f"{name}.{key}", value[key], f"absent: it is no known field, known are {', '.join(fields)}")
    values = {}
    for key, field in fields.items():
        if key in value:
            values[key] = field.metadata[_CHECK](f"{name}.{key}", value[key])
        elif field.default is dataclasses.MISSING:
            raise ConfigError(f"{name}.{key} is missing, it is the {field.metadata[_HELP]}")
    return kind(**values)


def check_table(record: object, name: str) -> None:
    """Raises ConfigError if a field of a dataclass built in code is out of range."""
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        field.metadata[_CHECK](f"{name}.{field.name}", value.hex() if isinstance(value, bytes) else value)


def write_table(record: object) -> dict[str, Any]:
    """The TOML table of a dataclass; `read_table` is its inverse."""
    table = {}
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        table[field.name] = value.hex() if isinstance(value, bytes) else value
    return table


def describe(kind: type[Any]) -> dict[str, str]:
    """Field name to help text with unit and range, for the documentation."""
    return {field.name: str(field.metadata[_HELP]) for field in dataclasses.fields(kind)}
