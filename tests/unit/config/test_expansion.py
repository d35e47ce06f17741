"""A network's folder over time: a node is added, a certificate renewed, a key rotated."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from chain.config import load_node_config
from chain.crypto import Scheme, verify
from chain.crypto.certificates import is_issued_by, read_node_identity
from chain.errors import ConfigError
from chain.model.validators import validator_id
from chain.net import TlsFiles
from chain.net.tls import check_files
from chain.node.consortium import NetworkInfo, NodeSpec, create_network, load_network, load_validator_key
from chain.node.expansion import (
    CARD_FILE,
    add_node,
    finish_rotation,
    load_card,
    prepare_rotation,
    renew_certificate,
)  # fmt: skip
from contracts.system.members import possession_digest

SPEC = NodeSpec(name="new-bank", organisation="New Bank", role="bank")


@pytest.fixture
def network(tmp_path: Path) -> NetworkInfo:
    return create_network(tmp_path / "net", name="test")


def test_an_added_node_has_all_it_needs(network: NetworkInfo) -> None:
    made = add_node(network, SPEC)
    assert load_network(network.path).nodes == (*network.nodes, made)
    config = load_node_config(made.config_path)
    assert {peer.validator for peer in config.peers} == {node.validator for node in network.nodes}
    check_files(TlsFiles.of(config), own=made.validator, authority_sha256=None)
    assert (made.folder / "genesis.json").read_text() == network.genesis_path.read_text()
    assert stat.S_IMODE((made.folder / "validator.key").stat().st_mode) == 0o600
    assert network.account_path("new-bank").exists()
    card = load_card(made.folder / CARD_FILE)
    assert validator_id(card.public_key) == made.validator
    assert (card.name, card.endpoint) == ("new-bank", f"{made.host}:{made.gateway_port}")
    digest = possession_digest(chain_id=network.chain_id, public_key=card.public_key)
    assert verify(Scheme.ED25519, card.public_key, digest, card.possession)


def test_a_taken_name_and_a_missing_authority_are_refused(network: NetworkInfo) -> None:
    with pytest.raises(ConfigError, match="node name is 'delta-bank' twice"):
        add_node(network, NodeSpec(name="delta-bank", organisation="Other", role="bank"))
    (network.path / "ca" / "ca.key").unlink()
    with pytest.raises(ConfigError, match="the CA's key is needed here"):
        add_node(network, SPEC)
    assert load_network(network.path) == network and not (network.path / "nodes" / "new-bank").exists()


@pytest.mark.parametrize("new_key", [False, True])
def test_a_renewed_certificate_is_the_nodes_own(network: NetworkInfo, new_key: bool) -> None:
    node = network.nodes[1]
    before = {name: (node.folder / name).read_bytes() for name in ("tls.key", "tls.crt")}
    expires = renew_certificate(network, node.name, new_key=new_key)
    after = {name: (node.folder / name).read_bytes() for name in before}
    assert after["tls.crt"] != before["tls.crt"]
    assert (after["tls.key"] != before["tls.key"]) is new_key
    assert stat.S_IMODE((node.folder / "tls.key").stat().st_mode) == 0o600
    identity = read_node_identity(after["tls.crt"])
    assert (identity.validator, identity.expires.isoformat()) == (node.validator, expires)
    assert is_issued_by(after["tls.crt"], (network.path / "ca" / "ca.crt").read_bytes())
    check_files(TlsFiles.of(load_node_config(node.config_path)), own=node.validator, authority_sha256=None)


def test_a_rotation_can_be_interrupted_and_repeated(network: NetworkInfo) -> None:
    node = network.nodes[2]
    old = load_validator_key(node.folder / "validator.key")
    new = prepare_rotation(network, node.name)
    assert prepare_rotation(network, node.name).validator_id == new.validator_id != old.validator_id
    assert load_validator_key(node.folder / "validator.key").validator_id == old.validator_id
    (node.folder / "validator.next.key").replace(node.folder / "validator.key")  # and then it was interrupted
    changed = finish_rotation(network, node.name)
    assert changed == load_network(network.path)
    assert changed.node(node.name).validator == new.validator_id
    check_files(TlsFiles.of(load_node_config(node.config_path)), own=new.validator_id, authority_sha256=None)
    assert not [path.name for path in node.folder.iterdir() if ".next." in path.name]


def test_what_is_no_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    for text, error in [
        ("{}", "not a node's card"), ("[]", "not a JSON object"), ('{"format": "x"}', "format is 'x'"),
        (json.dumps({"format": "headrace-node-card-1", "chain_id": "zz"}), "not a node's card"),
    ]:  # fmt: skip
        path.write_text(text)
        with pytest.raises(ConfigError, match=error):
            load_card(path)
