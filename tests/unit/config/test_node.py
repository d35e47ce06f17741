"""Unit tests of chain.config.node."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest

from chain.config import (
    ConsensusConfig,
    GatewayConfig,
    IdentityConfig,
    NodeConfig,
    PeerConfig,
    RpcConfig,
    dump_node_config,
    load_node_config,
    override,
    parse_node_config,
    save_node_config,
)
from chain.config.fields import describe
from chain.config.node import PEERS_MAX, TABLES
from chain.errors import ConfigError


def make_config(folder: Path = Path("/nodes/one")) -> NodeConfig:
    return NodeConfig(
        folder=folder,
        node=IdentityConfig(name="one", organisation="Bank of “One”", role="bank"),
        rpc=RpcConfig(port=7001),
        gateway=GatewayConfig(host="::1", port=7002, link_delay_ms=5),
        peers=(PeerConfig(validator=bytes(range(20)), name="two", host="two.example", port=7004),),
        consensus=ConsensusConfig(view_timeout_ms=500),
    )


def make_document() -> dict[str, Any]:
    return tomllib.loads(dump_node_config(make_config()))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    path = tmp_path / "node.toml"
    save_node_config(path, config)
    assert load_node_config(path) == config
    assert config.path("tls_key") == tmp_path / "tls.key"
    assert dataclasses.replace(config, paths=dataclasses.replace(config.paths, data="/var/data")).path("data") == Path(
        "/var/data"
    )


def test_everything_but_identity_ports_and_peers_has_a_default() -> None:
    document = {
        "node": {"name": "one", "organisation": "One", "role": "agency"},
        "rpc": {"port": 7001},
        "gateway": {"port": 7002},
    }
    config = parse_node_config(document, folder=Path("/x"))
    assert config.peers == ()
    assert (config.consensus.view_timeout_ms, config.consensus.block_interval_ms) == (2_000, 150)
    assert config.pool.pooled_ms_max == 3_000


WRONG = [
    ("rpc", "port", 0, "rpc.port is 0, must be a whole number of port numbers, 1..65535"),
    ("rpc", "port", True, "rpc.port is True, must be a whole number"),
    ("rpc", "port", "80", "rpc.port is '80', must be a whole number"),
    ("rpc", "host", "no host!", "rpc.host is 'no host!', must be a host name or an IP address"),
    ("gateway", "link_delay_ms", -1, "gateway.link_delay_ms is -1, must be a whole number of milliseconds, 0..10000"),
    ("executor", "count", 65, "executor.count is 65, must be a whole number of processes, 1..64"),
    ("executor", "mode", "fast", "executor.mode is 'fast', must be one of parallel, serial"),
    ("executor", "mode", ["parallel"], "executor.mode is ['parallel'], must be one of parallel, serial"),
    ("executor", "speculate", 1, "executor.speculate is 1, must be true or false"),
    ("executor", "speculate", "no", "executor.speculate is 'no', must be true or false"),
    ("pool", "bytes_max", 1.5, "pool.bytes_max is 1.5, must be a whole number of bytes"),
    ("consensus", "view_timeout_ms", 99, "consensus.view_timeout_ms is 99, must be a whole number of milliseconds"),
    ("consensus", "view_timeout_ms_max", 400, "must be at least consensus.view_timeout_ms (500)"),
    ("log", "level", "loud", "log.level is 'loud', must be one of debug, info, warning, error"),
    ("node", "role", "king", "node.role is 'king', must be one of bank, agency, regulator"),
    ("node", "name", "", "node.name is '', must be 1..128 printable characters"),
    ("node", "name", "a\nb", "node.name is 'a\\nb', must be"),
    ("node", "name", "n" * 129, "node.name is 'nnn"),
    ("paths", "data", 7, "paths.data is 7, must be"),
    ("rpc", "prot", 1, "rpc.prot is 1, must be absent: it is no known field, known are host, port"),
]


@pytest.mark.parametrize(("table", "field", "value", "text"), WRONG)
def test_one_error_names_field_value_and_what_would_be_right(table: str, field: str, value: object, text: str) -> None:
    document = make_document()
    document[table][field] = value
    with pytest.raises(ConfigError) as refused:
        parse_node_config(document, folder=Path("/x"))
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"peers": {}}, "peers is {}, must be a list of tables"),
        ({"peers": [1]}, "peers[0] is 1, must be a table"),
        ({"peers": [{"name": "x"}]}, "peers[0].validator is missing, it is the validator id; 40 lower-case hex digits"),
        ({"rpc": 1}, "rpc is 1, must be a table"),
        ({"rpc": {}}, "rpc.port is missing"),
        ({"colour": {}}, "colour is {}, must be absent: it is no known table"),
    ],
)
def test_wrong_tables_are_named(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_node_config({**make_document(), **change}, folder=Path("/x"))
    assert text in str(refused.value)


@pytest.mark.parametrize("validator", ["", "00", "0" * 39, "0" * 41, "G" * 40, "AB" * 20, "00 " * 20, 5])
def test_a_validator_id_is_forty_lower_case_hex_digits(validator: object) -> None:
    document = make_document()
    document["peers"][0]["validator"] = validator
    with pytest.raises(ConfigError, match=r"peers\[0\].validator is .*, must be 40 lower-case hex digits"):
        parse_node_config(document, folder=Path("/x"))


@pytest.mark.parametrize("field", ["validator", "name"])
def test_two_peers_must_differ(field: str) -> None:
    document = make_document()
    other = {"validator": "ff" * 20, "name": "three", "host": "three.example", "port": 7006}
    document["peers"].append({**other, field: document["peers"][0][field]})
    with pytest.raises(ConfigError, match=rf"peers\[1\].{field} is .*, must be unique"):
        parse_node_config(document, folder=Path("/x"))


def test_peers_and_ports_are_bounded() -> None:
    document = make_document()
    document["peers"] = [
        {"validator": f"{at:040x}", "name": f"n{at}", "host": "h", "port": 1} for at in range(PEERS_MAX + 1)
    ]
    with pytest.raises(ConfigError, match="at most 99"):
        parse_node_config(document, folder=Path("/x"))
    document = make_document()
    document["gateway"] = document["rpc"] | {"host": document["rpc"]["host"]}
    del document["gateway"]["connections_max"]
    with pytest.raises(ConfigError, match=r"gateway.port is 7001, must be another port than rpc.port"):
        parse_node_config(document, folder=Path("/x"))


def test_a_value_out_of_range_is_not_written() -> None:
    config = make_config()
    wrong = dataclasses.replace(config, rpc=dataclasses.replace(config.rpc, port=70_000))
    with pytest.raises(ConfigError, match=r"rpc.port is 70000"):
        dump_node_config(wrong)


@pytest.mark.parametrize("content", [b"[node", b"\xff\xfe", b"x = " + b"[" * 5_000])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"node.toml: not TOML"):
        load_node_config(path)


def test_a_file_that_is_not_there_or_too_big_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node.toml: cannot be read: No such file"):
        load_node_config(tmp_path / "node.toml")
    big = tmp_path / "big.toml"
    big.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="cannot be a node's configuration"):
        load_node_config(big)


def test_every_field_says_what_it_is_with_unit_and_range() -> None:
    for kind in (*TABLES.values(), PeerConfig):
        for name, text in describe(kind).items():
            assert "; " in text, f"{kind.__name__}.{name}"
            ranges = ("..", "one of", "host name", "hex digits", "true or false")
            assert any(word in text for word in ranges), f"{kind.__name__}.{name}"


def test_overrides_are_read_as_a_file_would_be() -> None:
    wanted = {
        "consensus.view_timeout_ms": 40_000, "consensus.view_timeout_ms_max": 50_000, "executor.speculate": False,
        "ablation.fsync": False, "ablation.unsafe": True, "gateway.link_delay_ms": 20, "crypto.checker": "process",
    }  # fmt: skip
    config = override(make_config(), wanted)
    assert {name: getattr(getattr(config, name.split(".")[0]), name.split(".")[1]) for name in wanted} == wanted
    assert (config.node, config.gateway.port) == (make_config().node, 7002)
    assert override(make_config(), {}) == make_config()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("consensus.speed", 1, "consensus.speed is 1, must be absent: no such field of all nodes, known are view_"),
        ("consensus", 1, "consensus is 1, must be absent"),
        ("speed.x", 1, "speed.x is 1, must be absent: no such field of all nodes, known are rpc, gateway, executor"),
        ("", 1, " is 1, must be absent"),
        ("rpc.port", 7_003, "rpc.port is 7003, must be absent: no such field of all nodes, known are connections_max"),
        ("gateway.host", "::1", "gateway.host is '::1', must be absent"),
        ("node.name", "two", "node.name is 'two', must be absent"),
        ("paths.data", "x", "paths.data is 'x', must be absent"),
        ("peers.name", "x", "peers.name is 'x', must be absent"),
        ("consensus.block_interval_ms", "100", "consensus.block_interval_ms is '100', must be a whole number"),
        ("consensus.view_timeout_ms", 31_000, "consensus.view_timeout_ms_max is 30000, must be at least"),
        ("crypto.checker", "pool", "crypto.checker is 'pool', must be one of threads, process"),
        ("ablation.pipeline", False, "ablation.pipeline is False, must be one of on, off"),
        ("ablation.fsync", False, "ablation.fsync is False, must be true, or ablation.unsafe true as well"),
    ],
)
def test_a_wrong_override_is_named(name: str, value: object, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        override(make_config(), {name: value})
    assert str(refused.value).startswith(text)


def test_a_file_without_fsync_must_say_that_it_is_unsafe() -> None:
    document = make_document()
    document["ablation"] = {"fsync": False}
    with pytest.raises(ConfigError, match=r"ablation\.fsync is False"):
        parse_node_config(document, folder=Path("/nodes/one"))
    document["ablation"]["unsafe"] = True
    assert not parse_node_config(document, folder=Path("/nodes/one")).ablation.fsync
