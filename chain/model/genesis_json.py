"""genesis.json: the genesis as people read and exchange it. Bytes are lower-case hex; every field is required.

The file carries nothing that the chain id does not cover, so two files with one chain id say the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chain.errors import ConfigError
from chain.model.genesis import RULE_SET, ChainParameters, Genesis, check_genesis, parameter_names
from chain.model.validators import Validator
from chain.types import ADDRESS_BYTES, DIGEST_BYTES

FORMAT: Final = "headrace-genesis-1"
GENESIS_BYTES_MAX: Final = 1024 * 1024
PUBLIC_KEY_BYTES: Final = 32
NAME_CHARS_MAX: Final = 128
_HEX: Final = re.compile("[0-9a-f]*")


def genesis_to_json(genesis: Genesis) -> dict[str, Any]:
    """The document of a genesis; `genesis_from_json` is its inverse."""
    parameters = genesis.parameters
    return {
        "format": FORMAT,
        "name": genesis.name,
        "created_ms": genesis.created_ms,
        "parameters": {field: getattr(parameters, field) for field in parameter_names(parameters.rule_set)},
        "validators": [
            {"name": member.name, "public_key": member.public_key.hex(), "weight": member.weight}
            for member in genesis.validators
        ],
        "ca_certificate_sha256": genesis.ca_certificate_sha256.hex(),
        "deployers": [account.hex() for account in genesis.deployers],
    }


def genesis_from_json(document: object) -> Genesis:
    """The genesis that a parsed genesis.json describes, checked by `check_genesis`.

    Raises:
        ConfigError: a field is missing, unknown, of another type or out of range; the text names it.
    """
    top = _fields(
        document, "genesis",
        ("format", "name", "created_ms", "parameters", "validators", "ca_certificate_sha256", "deployers"),
    )  # fmt: skip
    if top["format"] != FORMAT:
        raise ConfigError(f"genesis format is {top['format']!r}, must be {FORMAT!r}")
    parameters = _parameters(top["parameters"])
    genesis = Genesis(
        name=_text(top["name"], "name"),
        created_ms=_integer(top["created_ms"], "created_ms", low=0),
        parameters=ChainParameters(**parameters),
        validators=tuple(
            _validator(item, f"validators[{at}]") for at, item in enumerate(_list(top["validators"], "validators"))
        ),
        ca_certificate_sha256=_hex(top["ca_certificate_sha256"], "ca_certificate_sha256", length=DIGEST_BYTES),
        deployers=tuple(
            _hex(item, f"deployers[{at}]", length=ADDRESS_BYTES)
            for at, item in enumerate(_list(top["deployers"], "deployers"))
        ),
    )
    check_genesis(genesis)
    return genesis


def dump_genesis(genesis: Genesis) -> str:
    """The text of genesis.json."""
    return json.dumps(genesis_to_json(genesis), indent=2, ensure_ascii=False) + "\n"


def load_genesis(path: Path) -> Genesis:
    """The genesis in a file.

    Raises:
        ConfigError: no such file, not JSON, or a field is wrong; the text names the file and the field.
    """
    try:
        if path.stat().st_size > GENESIS_BYTES_MAX:
            raise ConfigError(f"{path}: more than {GENESIS_BYTES_MAX} bytes cannot be a genesis")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {error}") from None
    try:
        return genesis_from_json(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _fields(value: object, name: str, expected: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"genesis {name} is {_shown(value)}, must be an object")
    for field in expected:
        if field not in value:
            raise ConfigError(f"genesis {name} lacks the field {field!r}")
    for field in value:
        if field not in expected:
            raise ConfigError(f"genesis {name} has the unknown field {_shown(field)}, allowed: {', '.join(expected)}")
    return value


def _parameters(value: object) -> dict[str, int]:
    """Which fields there are depends on the rule set."""
    number = value.get("rule_set") if isinstance(value, dict) else None
    fields = _fields(value, "parameters", parameter_names(number if type(number) is int and number > 0 else RULE_SET))
    return {field: _integer(item, f"parameters.{field}", low=0) for field, item in fields.items()}


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise ConfigError(f"genesis {name} is {_shown(value)}, must be a list")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARS_MAX or not value.isprintable():
        raise ConfigError(f"genesis {name} is {_shown(value)}, must be 1..{NAME_CHARS_MAX} printable characters")
    return value


def _integer(value: object, name: str, *, low: int) -> int:
    if type(value) is not int or not low <= value < 2**63:
        raise ConfigError(f"genesis {name} is {_shown(value)}, must be an integer {low}..2^63-1")
    return value


def _hex(value: object, name: str, *, length: int) -> bytes:
    wanted = f"must be {2 * length} lower-case hex digits ({length} bytes)"
    if not isinstance(value, str) or len(value) != 2 * length or not _HEX.fullmatch(value):
        raise ConfigError(f"genesis {name} is {_shown(value)}, {wanted}")
    return bytes.fromhex(value)


def _validator(value: object, name: str) -> Validator:
    fields = _fields(value, name, ("name", "public_key", "weight"))
    return Validator(
        name=_text(fields["name"], f"{name}.name"),
        public_key=_hex(fields["public_key"], f"{name}.public_key", length=PUBLIC_KEY_BYTES),
        weight=_integer(fields["weight"], f"{name}.weight", low=1),
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
