"""genesis.json: there and back, and one error that names the field."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chain.errors import ConfigError
from chain.model.genesis import ChainParameters, Genesis, chain_id
from chain.model.genesis_json import dump_genesis, genesis_from_json, genesis_to_json, load_genesis
from chain.model.validators import Validator

GENESIS = Genesis(
    name="credit 征信",
    created_ms=1_700_000_000_000,
    parameters=ChainParameters(window=4),
    validators=tuple(Validator(name=f"bank {at}", public_key=bytes([at + 1]) * 32, weight=at + 1) for at in range(4)),
    ca_certificate_sha256=bytes(range(32)),
    deployers=(bytes(range(20)),),
)


def test_there_and_back(tmp_path: Path) -> None:
    assert genesis_from_json(genesis_to_json(GENESIS)) == GENESIS
    path = tmp_path / "genesis.json"
    path.write_text(dump_genesis(GENESIS), encoding="utf-8")
    assert load_genesis(path) == GENESIS
    assert chain_id(load_genesis(path)) == chain_id(GENESIS)


@pytest.mark.parametrize(
    ("rule_set", "chain", "text"),
    [
        (
            1, "389024bda0b687036a992514495fe16d9b6a26756c5e89a0002ec8802d427184",
            "99ddb40aec50e5be3db090a18227b297610b74c30cc5e2b07510fd902038b1fe",
        ),
        (
            2, "2e1eb6103aa276bc77fdd7afc61cdef79dd61b8f41a44b88a3c1452ff1019379",
            "fd2bd4cef5d7a48a4db84aec70395d09834ccadd54a50b8e9680e509f92727c4",
        ),
    ],
)  # fmt: skip
def test_a_genesis_of_an_older_rule_set_keeps_its_chain_id_and_its_file(rule_set: int, chain: str, text: str) -> None:
    """Recorded with the code before there was a rule set 3."""
    older = ChainParameters(rule_set=rule_set, window=4)
    genesis = msgspec.structs.replace(GENESIS, parameters=older)
    assert chain_id(genesis).hex() == chain
    assert hashlib.sha256(dump_genesis(genesis).encode()).hexdigest() == text
    assert genesis_from_json(json.loads(dump_genesis(genesis))) == genesis
    assert older.snapshot_interval == 0


def test_no_snapshots_can_be_asked_for() -> None:
    chosen = msgspec.structs.replace(GENESIS, parameters=ChainParameters(snapshot_interval=0))
    assert genesis_from_json(genesis_to_json(chosen)) == chosen
    assert chain_id(chosen) != chain_id(msgspec.structs.replace(chosen, parameters=ChainParameters()))


LACKS = object()


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("format",), "headrace-genesis-2", "format is 'headrace-genesis-2', must be"),
        (("name",), "", "name is '', must be 1..128 printable characters"),
        (("name",), "\ud800", "name"),
        (("name",), LACKS, "lacks the field 'name'"),
        (("extra",), 1, "unknown field 'extra'"),
        (("created_ms",), -1, "created_ms is -1, must be an integer"),
        (("created_ms",), True, "created_ms is True"),
        (("created_ms",), 1.0, "created_ms is 1.0"),
        (("created_ms",), 2**63, "created_ms"),
        (("parameters",), [], r"parameters is \[\], must be an object"),
        (("parameters", "window"), 0, "parameters.window is 0, must be 1..64"),
        (("parameters", "window"), "8", "parameters.window is '8', must be an integer"),
        (("parameters", "window"), LACKS, "lacks the field 'window'"),
        (("parameters", "speed"), 1, "unknown field 'speed'"),
        (("parameters", "rule_set"), 4, "rule_set is 4, must be 1..3"),
        (("parameters", "rule_set"), 2, "unknown field 'snapshot_interval'"),
        (("parameters", "snapshot_interval"), LACKS, "lacks the field 'snapshot_interval'"),
        (("parameters", "snapshot_interval"), 49, r"is 49, must be 0 \(no snapshots\) or 50..1000000"),
        (("parameters", "snapshot_interval"), 1_000_001, "snapshot_interval is 1000001, must be 0..1000000"),
        (("parameters", "rule_set"), 0, "rule_set is 0"),
        (("validators",), {}, r"validators is \{\}, must be a list"),
        (("validators",), [], "has 0 validators, must be 4..100, or 1 for development"),
        (("validators", 0), 5, r"validators\[0\] is 5, must be an object"),
        (("validators", 1, "weight"), 0, r"validators\[1\].weight is 0"),
        (("validators", 1, "public_key"), "ab", r"validators\[1\].public_key is 'ab', must be 64 lower-case hex"),
        (("validators", 1, "public_key"), "AB" * 32, "lower-case"),
        (("validators", 1, "public_key"), "a b" * 21 + "a", "lower-case"),
        (("validators", 1, "public_key"), "01" * 32, "two members have one public key"),
        (("ca_certificate_sha256",), None, "ca_certificate_sha256 is None"),
        (("deployers",), None, "deployers is None, must be a list"),
        (("deployers", 0), "00", r"deployers\[0\] is '00', must be 40"),
        (("deployers", 0), "x" * 200, r"deployers\[0\] is 'x+\.\.\."),
    ],
)
def test_a_wrong_field_is_named(path: tuple[Any, ...], value: object, text: str, tmp_path: Path) -> None:
    document = copy.deepcopy(genesis_to_json(GENESIS))
    where: Any = document
    for step in path[:-1]:
        where = where[step]
    if value is LACKS:
        del where[path[-1]]
    else:
        where[path[-1]] = value
    with pytest.raises(ConfigError, match=text):
        genesis_from_json(document)
    file = tmp_path / "genesis.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^{file}: "):
        load_genesis(file)


def test_what_is_no_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be an object"):
        genesis_from_json(None)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_genesis(tmp_path / "missing.json")
    file = tmp_path / "genesis.json"
    for text in ("{", "[" * 100_000):
        file.write_text(text)
        with pytest.raises(ConfigError, match="not JSON"):
            load_genesis(file)
    file.write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="cannot be a genesis"):
        load_genesis(file)
