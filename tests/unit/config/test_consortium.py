"""Unit tests of chain.config.consortium."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from chain.config import load_node_config
from chain.crypto import PrivateKey, Scheme
from chain.crypto.certificates import certificate_sha256, is_issued_by, read_node_identity
from chain.errors import BadInput, ConfigError
from chain.model.genesis import ChainParameters, chain_id
from chain.model.genesis_json import load_genesis
from chain.model.validators import ValidatorSet
from chain.node.consortium import (
    DEFAULT_NODES,
    NetworkInfo,
    NodeSpec,
    create_network,
    load_account,
    load_network,
    load_network_genesis,
    load_validator_key,
    new_account,
    some_nodes,
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> NetworkInfo:
    return create_network(tmp_path_factory.mktemp("consortium") / "network", name="Pearl River", executors=2)


def test_a_network_is_read_back_as_it_was_made(network: NetworkInfo) -> None:
    assert load_network(network.path) == network
    assert network.name == "Pearl River"
    assert [(node.organisation, node.role, node.name) for node in network.nodes] == [
        (spec.organisation, spec.role, spec.name) for spec in DEFAULT_NODES
    ]
    assert network.node("delta-bank").organisation == "Delta Bank"
    with pytest.raises(ConfigError, match="must be one of regulator, harbour-bank"):
        network.node("nobody")


def test_every_node_folder_is_complete_and_consistent(network: NetworkInfo) -> None:
    genesis = load_network_genesis(network)
    authority = (network.path / "ca" / "ca.crt").read_bytes()
    assert chain_id(genesis) == network.chain_id
    assert genesis.ca_certificate_sha256 == certificate_sha256(authority)
    ports = set()
    for node, member in zip(network.nodes, genesis.validators, strict=True):
        config = load_node_config(node.config_path)
        key = load_validator_key(config.path("validator_key"))
        assert key.validator_id == node.validator == member.id
        assert key.public_key == member.public_key
        assert read_node_identity(config.path("tls_certificate").read_bytes()).validator == node.validator
        assert is_issued_by(config.path("tls_certificate").read_bytes(), config.path("ca_certificate").read_bytes())
        assert chain_id(load_genesis(config.path("genesis"))) == network.chain_id
        assert config.path("data").is_dir()
        assert (config.rpc.port, config.gateway.port) == (node.rpc_port, node.gateway_port)
        assert {peer.validator for peer in config.peers} == {other.validator for other in network.nodes} - {
            node.validator
        }
        assert config.executor.count == 2
        ports |= {node.rpc_port, node.gateway_port}
    assert len(ports) == 2 * len(network.nodes)


def test_accounts_exist_and_those_of_regulator_and_operator_may_deploy(network: NetworkInfo) -> None:
    names = {"regulator", "harbour-bank", "delta-bank", "pearl-credit", "operator"}
    assert {path.stem for path in (network.path / "accounts").iterdir()} == names
    accounts = {name: load_account(network.account_path(name)) for name in names}
    deployers = load_network_genesis(network).deployers
    assert set(deployers) == {accounts["regulator"].address, accounts["operator"].address}


def test_secrets_can_be_read_by_their_owner_only(network: NetworkInfo) -> None:
    secrets = [*network.path.rglob("*.key"), *(network.path / "accounts").iterdir()]
    assert len(secrets) == 1 + 2 * 4 + 5
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_an_existing_folder_is_left_alone(network: NetworkInfo, tmp_path: Path) -> None:
    before = (network.path / "genesis.json").read_bytes()
    with pytest.raises(ConfigError, match="is not empty"):
        create_network(network.path, name="Again")
    assert (network.path / "genesis.json").read_bytes() == before
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ConfigError, match="is no folder"):
        create_network(file, name="Again")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert load_network(create_network(empty, name="Fine").path).name == "Fine"


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"executor.count is 0"):
        create_network(tmp_path / "network", name="Test", executors=0)
    with pytest.raises(ConfigError, match=r"parameters.window is 0"):
        create_network(tmp_path / "network", name="Test", parameters=ChainParameters(window=0))
    with pytest.raises(ConfigError, match=r"rpc.host is 'no host'"):
        create_network(tmp_path / "network", name="Test", host="no host", ports=[(at, at + 9) for at in range(1, 5)])
    assert list(tmp_path.iterdir()) == []


def specs(count: int, **changes: str) -> list[NodeSpec]:
    made = [NodeSpec(organisation=f"Bank {at}", role="bank", name=f"bank-{at}") for at in range(count)]
    if changes:
        fields = {"organisation": "Bank 0", "role": "bank", "name": "bank-0", **changes}
        made[0] = NodeSpec(**fields)
    return made


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        (specs(0), "nodes has 0 entries, must be 4..100, or 1 for development"),
        (specs(2), "nodes has 2 entries, must be 4..100, or 1 for development"),
        (specs(3), "nodes has 3 entries, must be 4..100, or 1 for development"),
        (specs(4, name="Bank"), "node name is 'Bank', must be"),
        (specs(4, name="../up"), "node name is '../up', must be"),
        (specs(4, name="bank-1"), "node name is 'bank-1' twice"),
        (specs(4, role="king"), "role of bank-0 is 'king', must be one of bank, agency, regulator"),
        (specs(4, organisation="Operator"), "organisation of bank-0 is 'Operator'"),
        (specs(4, organisation="a/b"), "organisation of bank-0 is 'a/b'"),
    ],
)
def test_bad_specifications_are_named(tmp_path: Path, nodes: list[NodeSpec], text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        create_network(tmp_path / "network", name="Test", nodes=nodes)
    assert text in str(refused.value)


def test_options_reach_the_files(tmp_path: Path) -> None:
    ports = [(9_000 + 2 * at, 9_001 + 2 * at) for at in range(4)]
    network = create_network(
        tmp_path / "network", name="Test", nodes=specs(4), ports=ports, open_deployment=True, link_delay_ms=7,
        mode="serial", created_ms=5, parameters=ChainParameters(window=4),
    )  # fmt: skip
    genesis = load_network_genesis(network)
    assert (genesis.deployers, genesis.created_ms, genesis.parameters.window) == ((), 5, 4)
    config = load_node_config(network.nodes[3].config_path)
    assert (config.rpc.port, config.gateway.port, config.gateway.link_delay_ms) == (9_006, 9_007, 7)
    assert config.executor.mode == "serial"
    assert network.nodes[3].rpc_url == "http://127.0.0.1:9006"
    with pytest.raises(ConfigError, match="ports has 3 pairs, must have 4"):
        create_network(tmp_path / "other", name="Test", nodes=specs(4), ports=ports[:3])


def test_organisations_with_several_nodes_share_an_account(tmp_path: Path) -> None:
    nodes = [NodeSpec(organisation=f"Bank {at % 2}", role="bank", name=f"node-{at}") for at in range(4)]
    network = create_network(tmp_path / "network", name="Test", nodes=nodes)
    assert {path.stem for path in (network.path / "accounts").iterdir()} == {"bank-0", "bank-1", "operator"}


@pytest.mark.parametrize("scheme", Scheme)
def test_accounts_are_written_once_and_read_back(tmp_path: Path, scheme: Scheme) -> None:
    path = tmp_path / "alice.json"
    key = new_account(path, "alice", scheme)
    assert load_account(path).secret == key.secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="must be new"):
        new_account(path, "alice", scheme)
    assert load_account(path).secret == key.secret
    with pytest.raises(BadInput, match="scheme"):
        new_account(tmp_path / "bob.json", "bob", 99)
    assert not (tmp_path / "bob.json").exists()


@pytest.mark.parametrize(
    "change",
    [{"scheme": "sm9"}, {"scheme": None}, {"secret": "00"}, {"secret": "zz" * 32}, {"address": "0x" + "00" * 20}],
)
def test_a_damaged_account_is_refused_without_showing_the_secret(tmp_path: Path, change: dict[str, str]) -> None:
    path = tmp_path / "alice.json"
    key: PrivateKey = new_account(path, "alice")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigError) as refused:
        load_account(path)
    assert "alice.json" in str(refused.value)
    assert key.secret.hex() not in str(refused.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", "not json", '{"format": "other"}'])
def test_damaged_files_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "network.json").write_text(content)
    (tmp_path / "validator.key").write_text(content)
    with pytest.raises(ConfigError, match=r"network.json"):
        load_network(tmp_path)
    with pytest.raises(ConfigError, match=r"network.json: cannot be read"):
        load_network(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"validator.key"):
        load_validator_key(tmp_path / "validator.key")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_validator_key(tmp_path / "absent.key")


def test_a_network_whose_genesis_was_exchanged_is_refused(tmp_path: Path) -> None:
    one = create_network(tmp_path / "one", name="One")
    two = create_network(tmp_path / "two", name="Two")
    one.genesis_path.write_bytes(two.genesis_path.read_bytes())
    with pytest.raises(ConfigError, match="chain id"):
        load_network_genesis(one)


def test_overrides_are_in_every_node_toml(tmp_path: Path) -> None:
    network = create_network(
        tmp_path / "network", name="Test", executors=2,
        overrides={"consensus.block_interval_ms": 100, "executor.speculate": False, "executor.count": 3},
    )  # fmt: skip
    for node in network.nodes:
        config = load_node_config(node.config_path)
        assert (config.consensus.block_interval_ms, config.executor.speculate, config.executor.count) == (100, False, 3)
    with pytest.raises(ConfigError, match=r"executor\.speed is 1, must be absent"):
        create_network(tmp_path / "other", name="Test", overrides={"executor.speed": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["network"]


def test_a_network_of_one_node_has_no_peers_and_is_its_own_quorum(tmp_path: Path) -> None:
    network = create_network(tmp_path / "network", name="Test", nodes=some_nodes(1))
    (node,) = load_network(network.path).nodes
    assert load_node_config(node.config_path).peers == ()
    validators = ValidatorSet(load_network_genesis(network).validators)
    assert (len(validators), validators.tolerated_weight, validators.quorum_weight) == (1, 0, 1)
    assert not validators.is_quorum([]) and validators.is_quorum([node.validator])


def test_some_nodes_are_the_default_ones_and_then_banks() -> None:
    assert some_nodes(4) == DEFAULT_NODES
    assert [spec.name for spec in some_nodes(6)] == [*(spec.name for spec in DEFAULT_NODES), "bank-5", "bank-6"]
