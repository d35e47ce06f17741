"""A network's folder over time: nodes that join, certificates that are renewed, validator keys that are rotated.

What the chain must be told about it goes through the system contract (`headrace members`); this is only the files.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Final

from chain.config import load_node_config
from chain.crypto import PrivateKey
from chain.crypto.certificates import Credentials, issue_node_certificate, read_node_identity
from chain.errors import BadInput, ConfigError
from chain.model.signing import ValidatorKey
from chain.node.consortium import (
    NetworkInfo,
    NodeInfo,
    NodeSpec,
    account_name,
    appearing,
    check_specs,
    free_ports,
    load_json,
    load_network_genesis,
    load_validator_key,
    node_config,
    save_network,
    write_account,
    write_node,
    write_secret,
)
from chain.types import ValidatorId
from contracts.system.members import possession_digest

CARD_FORMAT: Final = "headrace-node-card-1"
CARD_FILE: Final = "card.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeCard:
    """What a consortium must know of a node to take it in: a file its operator hands to a validator."""

    chain_id: bytes
    name: str
    organisation: str
    public_key: bytes
    endpoint: str  # HOST:PORT of its gateway
    possession: bytes  # the key's signature of `contracts.system.members.possession_digest`


# --- joining ---


def add_node(network: NetworkInfo, spec: NodeSpec, *, host: str | None = None) -> NodeInfo:
    """Make keys, a certificate of the consortium CA and a folder for another node. The chain does not know it yet.

    Raises:
        ConfigError: the name is taken or malformed, or the CA's key is not here.
    """
    check_specs([spec], taken=[node.name for node in network.nodes])
    genesis = load_network_genesis(network)
    authority = load_authority(network)
    host = network.nodes[0].host if host is None else host
    ((rpc_port, gateway_port),) = free_ports(host, 1)
    key = ValidatorKey.generate()
    info = NodeInfo(
        name=spec.name, organisation=spec.organisation, role=spec.role, validator=key.validator_id, host=host,
        rpc_port=rpc_port, gateway_port=gateway_port, folder=network.path / "nodes" / spec.name,
    )  # fmt: skip
    like = load_node_config(network.nodes[0].config_path)
    config = node_config(network, info, like.executor, like.gateway.link_delay_ms)
    config = dataclasses.replace(config, crypto=like.crypto)
    card = make_card(info, key, genesis_chain=network.chain_id)
    with appearing(info.folder) as staging:
        staging.rmdir()
        write_node(staging, config, genesis, authority, key)
        save_card(staging / CARD_FILE, card)
    account = network.account_path(account_name(spec))
    if not account.exists():
        write_account(account, account_name(spec), PrivateKey.generate())
    save_network(network.path, dataclasses.replace(network, nodes=(*network.nodes, info)))
    return info


def make_card(node: NodeInfo, key: ValidatorKey, *, genesis_chain: bytes) -> NodeCard:
    """The card of a node with this key."""
    host = f"[{node.host}]" if ":" in node.host else node.host
    return NodeCard(
        chain_id=genesis_chain,
        name=node.name,
        organisation=node.organisation,
        public_key=key.public_key,
        endpoint=f"{host}:{node.gateway_port}",
        possession=key.sign(possession_digest(chain_id=genesis_chain, public_key=key.public_key)),
    )


def card_document(card: NodeCard) -> dict[str, Any]:
    """The card as JSON."""
    return {
        "format": CARD_FORMAT,
        "chain_id": card.chain_id.hex(),
        "name": card.name,
        "organisation": card.organisation,
        "public_key": card.public_key.hex(),
        "endpoint": card.endpoint,
        "possession": card.possession.hex(),
    }


def save_card(path: Path, card: NodeCard) -> None:
    path.write_text(json.dumps(card_document(card), indent=2) + "\n", encoding="utf-8")


def load_card(path: Path) -> NodeCard:
    """Raises ConfigError: no such file, or it is no card."""
    document = load_json(path)
    try:
        if document["format"] != CARD_FORMAT:
            raise ConfigError(f"{path}: format is {document['format']!r}, must be {CARD_FORMAT!r}")
        return NodeCard(
            chain_id=bytes.fromhex(document["chain_id"]),
            name=str(document["name"]),
            organisation=str(document["organisation"]),
            public_key=bytes.fromhex(document["public_key"]),
            endpoint=str(document["endpoint"]),
            possession=bytes.fromhex(document["possession"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a node's card: {error!r}") from None


# --- certificates ---


def load_authority(network: NetworkInfo) -> Credentials:
    """The consortium CA with its key, which only who runs the CA has.

    Raises:
        ConfigError: it is not in this folder.
    """
    folder = network.path / "ca"
    try:
        return Credentials(certificate=(folder / "ca.crt").read_bytes(), key=(folder / "ca.key").read_bytes())
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}; the CA's key is needed here") from None


def renew_certificate(network: NetworkInfo, name: str, *, new_key: bool = False) -> str:
    """A new certificate for a node, in the place of the old one at once; until when it is valid (ISO 8601).

    The TLS key stays, unless `new_key`: then there are two files to replace, and a node that is started just between
    the two refuses to start.

    Raises:
        ConfigError: no such node, or files that cannot be read or written.
    """
    node = network.node(name)
    config = load_node_config(node.config_path)
    certificate_path, key_path = config.path("tls_certificate"), config.path("tls_key")
    try:
        identity = read_node_identity(certificate_path.read_bytes())
        key = None if new_key else key_path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from None
    except BadInput as error:
        raise ConfigError(f"{certificate_path}: {error.message}") from None
    renewed = _issue(network, node, identity.validator, key)
    if new_key:
        _replace_secret(key_path, renewed.key)
    _replace(certificate_path, renewed.certificate)
    return read_node_identity(renewed.certificate).expires.isoformat()


def _issue(network: NetworkInfo, node: NodeInfo, validator: ValidatorId, key: bytes | None) -> Credentials:
    return issue_node_certificate(
        load_authority(network), organisation=node.organisation, node=node.name, validator=validator,
        hosts=(node.host,), key=key,
    )  # fmt: skip


# --- validator keys ---


def prepare_rotation(network: NetworkInfo, name: str) -> ValidatorKey:
    """Make the node's next validator key and the certificate for it, beside those in use; or take those made before.

    Raises:
        ConfigError: no such node, or files that cannot be read or written.
    """
    node = network.node(name)
    paths = load_node_config(node.config_path)
    key_path = paths.path("next_validator_key")
    if not key_path.exists():
        key = ValidatorKey.generate()
        renewed = _issue(network, node, key.validator_id, None)
        _replace_secret(paths.path("next_tls_key"), renewed.key)
        _replace(paths.path("next_tls_certificate"), renewed.certificate)
        _replace_secret(key_path, key.secret.hex().encode() + b"\n")  # last: a node looks for this one
    return load_validator_key(key_path)


def finish_rotation(network: NetworkInfo, name: str) -> NetworkInfo:
    """The next key is in force: it takes the place of the old one, which is gone. Also after it was interrupted.

    Raises:
        ConfigError: no such node, or files that cannot be written.
    """
    node = network.node(name)
    paths = load_node_config(node.config_path)
    try:
        for field in ("validator_key", "tls_key", "tls_certificate"):
            following = paths.path(f"next_{field}")
            if following.exists():
                following.replace(paths.path(field))
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be replaced: {error.strerror}") from None
    validator = load_validator_key(paths.path("validator_key")).validator_id
    nodes = tuple(
        dataclasses.replace(other, validator=validator) if other.name == name else other for other in network.nodes
    )
    changed = dataclasses.replace(network, nodes=nodes)
    save_network(network.path, changed)
    return changed


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _replace_secret(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    write_secret(temporary, content)
    temporary.replace(path)
