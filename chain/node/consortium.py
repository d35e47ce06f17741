"""The folder of a consortium: made in one go for a new network, read back by the command line, tests and benchmarks.

NETWORK/network.json                      name, chain id, nodes
NETWORK/genesis.json
NETWORK/ca/{ca.key,ca.crt}                the consortium CA
NETWORK/accounts/NAME.json                one account per organisation and "operator"; mode 0600
NETWORK/nodes/NAME/{node.toml,genesis.json,tls.key,tls.crt,ca.crt,validator.key,data/}
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chain.config import ExecutorConfig, GatewayConfig, IdentityConfig, NodeConfig, PeerConfig, RpcConfig
from chain.config.node import ROLES, override, save_node_config
from chain.crypto import PrivateKey, Scheme
from chain.crypto.certificates import Credentials, certificate_sha256, create_authority, issue_node_certificate
from chain.errors import BadInput, ConfigError
from chain.model.genesis import ChainParameters, Genesis, chain_id, check_genesis
from chain.model.genesis_json import dump_genesis, load_genesis
from chain.model.signing import ValidatorKey
from chain.model.validators import Validator, check_count
from chain.types import Digest, ValidatorId

FORMAT: Final = "headrace-network-1"
OPERATOR: Final = "operator"
PORTS: Final = range(20_000, 32_000)
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
_SECRET_MODE: Final = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """A node of a network to be made; `name` is lower-case letters, digits and hyphens."""

    organisation: str
    role: str  # bank, agency or regulator
    name: str


DEFAULT_NODES: Final = (
    NodeSpec(organisation="Regulator", role="regulator", name="regulator"),
    NodeSpec(organisation="Harbour Bank", role="bank", name="harbour-bank"),
    NodeSpec(organisation="Delta Bank", role="bank", name="delta-bank"),
    NodeSpec(organisation="Pearl Credit", role="agency", name="pearl-credit"),
)


def some_nodes(count: int) -> tuple[NodeSpec, ...]:
    """So many nodes with made-up names: those of the default network, then more banks."""
    banks = (NodeSpec(organisation=f"Bank {at}", role="bank", name=f"bank-{at}") for at in range(5, count + 1))
    return (*DEFAULT_NODES[:count], *banks)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """A node of an existing network."""

    name: str
    organisation: str
    role: str
    validator: ValidatorId
    host: str
    rpc_port: int
    gateway_port: int
    folder: Path

    @property
    def rpc_url(self) -> str:
        return f"http://{self.host}:{self.rpc_port}"

    @property
    def config_path(self) -> Path:
        return self.folder / "node.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInfo:
    """An existing network."""

    path: Path
    name: str
    chain_id: Digest
    nodes: tuple[NodeInfo, ...]  # in genesis order

    @property
    def genesis_path(self) -> Path:
        return self.path / "genesis.json"

    def node(self, name: str) -> NodeInfo:
        """The node of that name.

        Raises:
            ConfigError: there is none; the text lists the names.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise ConfigError(f"node is {name!r}, must be one of {', '.join(node.name for node in self.nodes)}")

    def account_path(self, name: str) -> Path:
        return self.path / "accounts" / f"{name}.json"


def create_network(
    path: Path,
    *,
    name: str,
    nodes: Sequence[NodeSpec] = DEFAULT_NODES,
    host: str = "127.0.0.1",
    executors: int = 1,
    mode: str = "parallel",
    parameters: ChainParameters | None = None,
    ports: Sequence[tuple[int, int]] | None = None,
    link_delay_ms: int = 0,
    open_deployment: bool = False,
    overrides: Mapping[str, object] | None = None,
    created_ms: int | None = None,
) -> NetworkInfo:
    """Make keys, certificates, genesis and a folder per node; the folder appears whole or not at all.

    `ports` are (rpc, gateway) pairs, one a node; without them free ports of this machine are taken. The regulators'
    and the operator's accounts may deploy contracts, or everyone with `open_deployment`. `overrides` are fields of
    every node.toml by TABLE.FIELD, for example {"consensus.block_interval_ms": 100}; they come after all else.

    Raises:
        ConfigError: a name or number is out of range, an override names no field, or `path` exists and is not an
            empty folder.
    """
    _check_specs(nodes)
    path = path.absolute()
    _check_free(path)
    pairs = free_ports(host, len(nodes)) if ports is None else list(ports)
    if len(pairs) != len(nodes):
        raise ConfigError(f"ports has {len(pairs)} pairs, must have {len(nodes)}, one a node")
    keys = [ValidatorKey.generate() for _ in nodes]
    authority = create_authority(consortium=name)
    accounts = {organisation: PrivateKey.generate() for organisation in (*_account_names(nodes), OPERATOR)}
    deploying = {OPERATOR, *(account_name(spec) for spec in nodes if spec.role == "regulator")}
    genesis = Genesis(
        name=name,
        created_ms=int(time.time() * 1_000) if created_ms is None else created_ms,
        parameters=ChainParameters() if parameters is None else parameters,
        validators=_validators(nodes, keys),
        ca_certificate_sha256=certificate_sha256(authority.certificate),
        deployers=() if open_deployment else tuple(sorted(accounts[holder].address for holder in deploying)),
    )
    check_genesis(genesis)
    infos = _node_infos(path, host, nodes, keys, pairs)
    network = NetworkInfo(path=path, name=name, chain_id=chain_id(genesis), nodes=infos)
    executor = ExecutorConfig(count=executors, mode=mode)
    configs = [override(node_config(network, info, executor, link_delay_ms), overrides or {}) for info in infos]
    with appearing(path) as staging:
        _write_shared(staging, network, genesis, authority, accounts)
        for info, config, key in zip(infos, configs, keys, strict=True):
            write_node(staging / "nodes" / info.name, config, genesis, authority, key)
    return network


def load_network(path: Path) -> NetworkInfo:
    """The network in a folder that `create_network` made.

    Raises:
        ConfigError: no such network, or network.json is damaged.
    """
    path = path.absolute()
    document = load_json(path / "network.json")
    try:
        if document["format"] != FORMAT:
            raise ConfigError(f"{path / 'network.json'}: format is {document['format']!r}, must be {FORMAT!r}")
        nodes = tuple(
            NodeInfo(
                name=str(node["name"]),
                organisation=str(node["organisation"]),
                role=str(node["role"]),
                validator=ValidatorId(bytes.fromhex(node["validator"])),
                host=str(node["host"]),
                rpc_port=int(node["rpc_port"]),
                gateway_port=int(node["gateway_port"]),
                folder=path / "nodes" / str(node["name"]),
            )
            for node in document["nodes"]
        )
        return NetworkInfo(
            path=path, name=str(document["name"]), chain_id=Digest(bytes.fromhex(document["chain_id"])), nodes=nodes
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path / 'network.json'}: damaged: {error!r}") from None


def load_network_genesis(network: NetworkInfo) -> Genesis:
    """The genesis of a network.

    Raises:
        ConfigError: it cannot be read, or its chain id is not the network's.
    """
    genesis = load_genesis(network.genesis_path)
    if chain_id(genesis) != network.chain_id:
        raise ConfigError(
            f"{network.genesis_path}: chain id {chain_id(genesis).hex()}, must be {network.chain_id.hex()}"
        )
    return genesis


def new_account(path: Path, name: str, scheme: int = Scheme.ED25519) -> PrivateKey:
    """A fresh account key in a new file of mode 0600.

    Raises:
        ConfigError: the file exists or cannot be written.
        BadInput: `unknown_scheme`.
    """
    key = PrivateKey.generate(scheme)
    write_account(path, name, key)
    return key


def load_account(path: Path) -> PrivateKey:
    """The account key in a file.

    Raises:
        ConfigError: no such file, or it is damaged; the text never shows the secret.
    """
    document = load_json(path)
    try:
        key = PrivateKey.from_secret(Scheme[str(document["scheme"]).upper()], bytes.fromhex(document["secret"]))
        address = str(document["address"])
    except (KeyError, TypeError, ValueError, BadInput) as error:
        raise ConfigError(f"{path}: not an account file ({type(error).__name__})") from None
    if key.address.hex() != address.removeprefix("0x"):
        raise ConfigError(f"{path}: address is {address!r}, must be 0x{key.address.hex()}, the secret's")
    return key


def load_validator_key(path: Path) -> ValidatorKey:
    """The key that signs a node's votes.

    Raises:
        ConfigError: no such file, or it is damaged; the text never shows the secret.
    """
    try:
        return ValidatorKey(bytes.fromhex(path.read_text(encoding="ascii").strip()))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, BadInput):
        raise ConfigError(f"{path}: not a validator key, must be 64 hex digits") from None


# --- names and ports ---


def _check_specs(nodes: Sequence[NodeSpec]) -> None:
    check_count(len(nodes), f"nodes has {len(nodes)} entries")
    check_specs(nodes, taken=())


def check_specs(nodes: Sequence[NodeSpec], *, taken: Iterable[str]) -> None:
    """Raises ConfigError: a name is malformed or taken, or a role unknown."""
    seen = set(taken)
    for spec in nodes:
        if not _NAME.fullmatch(spec.name):
            raise ConfigError(f"node name is {spec.name!r}, must be 1..48 lower-case letters, digits and hyphens")
        if spec.name in seen:
            raise ConfigError(f"node name is {spec.name!r} twice, must be unique")
        seen.add(spec.name)
        if spec.role not in ROLES:
            raise ConfigError(f"role of {spec.name} is {spec.role!r}, must be one of {', '.join(ROLES)}")
        if not _NAME.fullmatch(account_name(spec)) or account_name(spec) == OPERATOR:
            raise ConfigError(
                f"organisation of {spec.name} is {spec.organisation!r}, must be 1..48 letters, digits and spaces, "
                f"and not {OPERATOR!r}"
            )


def account_name(spec: NodeSpec) -> str:
    """The organisation in lower case with hyphens: the name of its account file."""
    return re.sub(r"[ _.]+", "-", spec.organisation.strip().lower())


def _account_names(nodes: Sequence[NodeSpec]) -> list[str]:
    return list(dict.fromkeys(account_name(spec) for spec in nodes))


def free_ports(host: str, count: int) -> list[tuple[int, int]]:
    """Ports nobody listens on now; all are held at once so that no two are equal.

    They lie below the range from which systems take ports for outgoing connections, so that they stay free.
    """
    candidates = random.SystemRandom().sample(PORTS, len(PORTS))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports: list[int] = []
    with ExitStack() as held:
        for port in candidates:
            listener = held.enter_context(socket.socket(family))
            try:
                listener.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ConfigError(f"host is {host!r}, must be an address of this machine: {error}") from None
                continue
            ports.append(port)
            if len(ports) == 2 * count:
                return list(zip(ports[::2], ports[1::2], strict=True))
    raise ConfigError(f"host {host!r} has fewer than {2 * count} free ports in {PORTS.start}..{PORTS.stop - 1}")


def _check_free(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ConfigError(f"{path} exists and is no folder, must be absent or an empty folder")
    if path.exists() and any(path.iterdir()):
        raise ConfigError(f"{path} exists and is not empty, must be absent or an empty folder")


# --- files ---


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A folder to fill; it becomes `path` at the end of the block, or vanishes if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}") from None
    try:
        staging.chmod(0o755)
        yield staging
        staging.rename(path)  # replaces an empty folder, fails on any other
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _validators(nodes: Sequence[NodeSpec], keys: Sequence[ValidatorKey]) -> tuple[Validator, ...]:
    return tuple(
        Validator(name=spec.name, public_key=key.public_key, weight=1) for spec, key in zip(nodes, keys, strict=True)
    )


def _node_infos(
    path: Path, host: str, nodes: Sequence[NodeSpec], keys: Sequence[ValidatorKey], ports: Sequence[tuple[int, int]]
) -> tuple[NodeInfo, ...]:
    return tuple(
        NodeInfo(
            name=spec.name, organisation=spec.organisation, role=spec.role, validator=key.validator_id, host=host,
            rpc_port=rpc_port, gateway_port=gateway_port, folder=path / "nodes" / spec.name,
        )
        for spec, key, (rpc_port, gateway_port) in zip(nodes, keys, ports, strict=True)
    )  # fmt: skip


def node_config(network: NetworkInfo, info: NodeInfo, executor: ExecutorConfig, link_delay_ms: int) -> NodeConfig:
    """The configuration of a node of a network: the others are its peers."""
    return NodeConfig(
        folder=info.folder,
        node=IdentityConfig(name=info.name, organisation=info.organisation, role=info.role),
        rpc=RpcConfig(host=info.host, port=info.rpc_port),
        gateway=GatewayConfig(host=info.host, port=info.gateway_port, link_delay_ms=link_delay_ms),
        peers=tuple(
            PeerConfig(validator=other.validator, name=other.name, host=other.host, port=other.gateway_port)
            for other in network.nodes
            if other.name != info.name
        ),
        executor=executor,
    )


def _write_shared(
    folder: Path, network: NetworkInfo, genesis: Genesis, authority: Credentials, accounts: dict[str, PrivateKey]
) -> None:
    (folder / "genesis.json").write_text(dump_genesis(genesis), encoding="utf-8")
    for name in ("ca", "accounts", "nodes"):
        (folder / name).mkdir()
    write_secret(folder / "ca" / "ca.key", authority.key)
    (folder / "ca" / "ca.crt").write_bytes(authority.certificate)
    for name, key in accounts.items():
        write_account(folder / "accounts" / f"{name}.json", name, key)
    save_network(folder, network)


def save_network(folder: Path, network: NetworkInfo) -> None:
    """Write network.json, in the place of an older one at once."""
    document = {
        "format": FORMAT,
        "name": network.name,
        "chain_id": network.chain_id.hex(),
        "nodes": [
            {
                "name": node.name,
                "organisation": node.organisation,
                "role": node.role,
                "validator": node.validator.hex(),
                "host": node.host,
                "rpc_port": node.rpc_port,
                "gateway_port": node.gateway_port,
            }
            for node in network.nodes
        ],
    }
    temporary = folder / ".network.json"
    temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / "network.json")


def write_node(folder: Path, config: NodeConfig, genesis: Genesis, authority: Credentials, key: ValidatorKey) -> None:
    """Everything that one node needs, in a new folder."""
    folder.mkdir()
    (folder / "data").mkdir()
    save_node_config(folder / "node.toml", config)
    certificate = issue_node_certificate(
        authority,
        organisation=config.node.organisation,
        node=config.node.name,
        validator=key.validator_id,
        hosts=(config.gateway.host,),
    )
    (folder / "genesis.json").write_text(dump_genesis(genesis), encoding="utf-8")
    (folder / "ca.crt").write_bytes(authority.certificate)
    (folder / "tls.crt").write_bytes(certificate.certificate)
    write_secret(folder / "tls.key", certificate.key)
    write_secret(folder / "validator.key", key.secret.hex().encode() + b"\n")


def write_account(path: Path, name: str, key: PrivateKey) -> None:
    """A new account file. Raises ConfigError."""
    document = {
        "name": name,
        "scheme": key.scheme.name.lower(),
        "address": "0x" + key.address.hex(),
        "public_key": key.public_key.hex(),
        "secret": key.secret.hex(),
    }
    try:
        write_secret(path, json.dumps(document, indent=2).encode() + b"\n")
    except FileExistsError:
        raise ConfigError(f"{path} exists, an account file must be new") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def write_secret(path: Path, content: bytes) -> None:
    """A new file that only its owner may read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _SECRET_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def load_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ConfigError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: not JSON") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: not a JSON object")
    return document
