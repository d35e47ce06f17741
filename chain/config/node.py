"""The node's own configuration, `node.toml`: frozen dataclasses, one a table, every field with unit and range."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import tomli_w

from chain.config.fields import (
    boolean,
    check_table,
    choice,
    hex_bytes,
    host,
    integer,
    read_table,
    refuse,
    text,
    write_table,
)
from chain.errors import ConfigError
from chain.types import ADDRESS_BYTES

CONFIG_BYTES_MAX: Final = 1024 * 1024
PEERS_MAX: Final = 99
ROLES: Final = ("bank", "agency", "regulator")
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityConfig:
    """Who runs this node."""

    name: str = text("node's name, unique in the consortium")
    organisation: str = text("organisation that runs the node")
    role: str = choice("organisation's role", allowed=ROLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathsConfig:
    """Files and folders; a relative path starts at the folder of node.toml (`NodeConfig.path` joins them)."""

    genesis: str = text("genesis file", default="genesis.json")
    data: str = text("folder of the node's databases", default="data")
    tls_key: str = text("key of the node's certificate, PEM", default="tls.key")
    tls_certificate: str = text("node's certificate, PEM", default="tls.crt")
    ca_certificate: str = text("consortium CA's certificate, PEM", default="ca.crt")
    validator_key: str = text("key that signs votes", default="validator.key")
    next_validator_key: str = text(
        "key that signs votes once the chain says so (a rotation); need not exist", default="validator.next.key"
    )
    next_tls_key: str = text("key of the certificate for that key, PEM; need not exist", default="tls.next.key")
    next_tls_certificate: str = text("certificate for that key, PEM; need not exist", default="tls.next.crt")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """A host and a TCP port."""

    host: str = host("host", default="127.0.0.1")
    port: int = integer("port", low=1, high=65_535, unit="port numbers")


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcConfig(EndpointConfig):
    """Where applications connect (JSON-RPC, metrics)."""

    connections_max: int = integer("open connections", low=1, high=100_000, unit="connections", default=1_024)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig(EndpointConfig):
    """Where other nodes connect (mutual TLS)."""

    link_delay_ms: int = integer("delay added to every sent frame", low=0, high=10_000, unit="milliseconds", default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """Another node of the consortium."""

    validator: bytes = hex_bytes("validator id", length=ADDRESS_BYTES)
    name: str = text("node's name")
    host: str = host("host")
    port: int = integer("gateway port", low=1, high=65_535, unit="port numbers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorConfig:
    """The processes that run transactions."""

    count: int = integer("executors", low=1, high=64, unit="processes", default=1)
    mode: str = choice("execution", allowed=("parallel", "serial"), default="parallel")
    speculate: bool = boolean("execution of proposals that are prepared and not ordered yet", default=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Limits of the transaction pool; what exceeds them is refused, nothing accepted is lost."""

    transactions_max: int = integer("pool size", low=1, high=10_000_000, unit="transactions", default=100_000)
    bytes_max: int = integer("pool size", low=_MIB, high=65_536 * _MIB, unit="bytes", default=256 * _MIB)
    pooled_ms_max: int = integer(
        "time in the pool after which a transaction is sent to all and the leader is suspected",
        low=100, high=600_000, unit="milliseconds", default=3_000,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusConfig:
    """Local timers; none of them changes what is agreed on."""

    view_timeout_ms: int = integer(
        "time without an ordered proposal before a view change", low=100, high=600_000, unit="milliseconds",
        default=2_000,
    )  # fmt: skip
    view_timeout_ms_max: int = integer(
        "cap of the growing view time-out", low=100, high=600_000, unit="milliseconds", default=30_000
    )
    retransmit_ms: int = integer(
        "pause between repeats of the status while work is outstanding", low=20, high=60_000, unit="milliseconds",
        default=500,
    )  # fmt: skip
    block_interval_ms: int = integer(
        "distance between two blocks of a busy leader, full ones apart; a calm one does not wait", low=0, high=60_000,
        unit="milliseconds", default=150,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoConfig:
    """Signature checking."""

    threads: int = integer("threads that check signatures", low=1, high=64, unit="threads", default=2)
    kernel: str = choice(
        "Ed25519 checks eight at a time, where the processor has AVX-512 IFMA", allowed=("auto", "never"),
        default="auto",
    )  # fmt: skip
    checker: str = choice(
        "where signatures are checked: threads of the node, or as many processes of their own",
        allowed=("threads", "process"), default="threads",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    """How a node that is far behind catches up."""

    snapshot: str = choice(
        "loading of a certified state snapshot instead of executing every block", allowed=("auto", "never"),
        default="auto",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """The node's log."""

    level: str = choice("lowest level that is written", allowed=("debug", "info", "warning", "error"), default="info")


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationConfig:
    """Parts of the node switched off, to measure what each is worth. A node of a real network has none of this."""

    pipeline: str = choice(
        '"off": the next block is packed when the one before is stored, and nothing is executed before it is ordered',
        allowed=("on", "off"), default="on",
    )  # fmt: skip
    fsync: bool = boolean(
        "commits wait for the disk; false loses or damages the node's data when the machine crashes, and lets it "
        "contradict its own votes afterwards (needs ablation.unsafe)",
        default=True,
    )
    unsafe: bool = boolean("the operator knows that this node keeps no promise about its data", default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """All of node.toml. `folder` is where it lies."""

    folder: Path
    node: IdentityConfig
    rpc: RpcConfig
    gateway: GatewayConfig
    peers: tuple[PeerConfig, ...]
    paths: PathsConfig = field(default_factory=PathsConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    consensus: ConsensusConfig = field(default_factory=ConsensusConfig)
    crypto: CryptoConfig = field(default_factory=CryptoConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    log: LogConfig = field(default_factory=LogConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)

    @property
    def is_pipelined(self) -> bool:
        """The stages of the node work on different heights at the same time."""
        return self.ablation.pipeline == "on"

    def path(self, name: str) -> Path:
        """The path of a field of `paths`, for example `config.path("tls_key")`."""
        relative: str = getattr(self.paths, name)
        return self.folder / relative


TABLES: Final[dict[str, type[Any]]] = {
    "node": IdentityConfig,
    "rpc": RpcConfig,
    "gateway": GatewayConfig,
    "paths": PathsConfig,
    "executor": ExecutorConfig,
    "pool": PoolConfig,
    "consensus": ConsensusConfig,
    "crypto": CryptoConfig,
    "sync": SyncConfig,
    "log": LogConfig,
    "ablation": AblationConfig,
}
OWN_TABLES: Final = ("node", "paths")  # of one node each: `override` leaves them alone, as it does host and port
OWN_FIELDS: Final = ("host", "port")


def parse_node_config(document: Mapping[str, Any], *, folder: Path) -> NodeConfig:
    """The configuration in a parsed TOML document.

    Raises:
        ConfigError: names the field, its value and what would be right.
    """
    for key in document:
        if key not in TABLES and key != "peers":
            refuse(key, document[key], f"absent: it is no known table, known are {', '.join(TABLES)}, peers")
    tables: dict[str, Any] = {name: read_table(kind, document.get(name, {}), name) for name, kind in TABLES.items()}
    entries = document.get("peers", [])
    if not isinstance(entries, list):
        refuse("peers", entries, "a list of tables ([[peers]])")
    peers = tuple(read_table(PeerConfig, entry, f"peers[{at}]") for at, entry in enumerate(entries))
    config = NodeConfig(folder=folder, peers=peers, **tables)
    _check_together(config)
    return config


def override(config: NodeConfig, overrides: Mapping[str, object]) -> NodeConfig:
    """`config` with other values of the fields named TABLE.FIELD, for example {"consensus.block_interval_ms": 100}.

    Raises:
        ConfigError: no such field, one that every node has its own of, or a value out of range.
    """
    for name, value in overrides.items():
        table, _, field_name = name.partition(".")
        kind = TABLES.get(table)
        known = () if kind is None or table in OWN_TABLES else tuple(item.name for item in fields(kind))
        if field_name in OWN_FIELDS or field_name not in known:
            choices = known or tuple(key for key in TABLES if key not in OWN_TABLES)
            wanted = ", ".join(item for item in choices if item not in OWN_FIELDS)
            refuse(name, value, f"absent: no such field of all nodes, known are {wanted}")
        given = write_table(getattr(config, table)) | {field_name: value}
        config = replace(config, **{table: read_table(TABLES[table], given, table)})
    _check_together(config)
    return config


def load_node_config(path: Path) -> NodeConfig:
    """The configuration in a file.

    Raises:
        ConfigError: no such file, not TOML, or a field is wrong; the text names the file and the field.
    """
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise ConfigError(f"{path}: more than {CONFIG_BYTES_MAX} bytes cannot be a node's configuration")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    try:
        return parse_node_config(document, folder=path.parent.absolute())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def dump_node_config(config: NodeConfig) -> str:
    """The text of node.toml.

    Raises:
        ConfigError: a field is out of range: what is written can be read again.
    """
    document: dict[str, Any] = {}
    for name in TABLES:
        check_table(getattr(config, name), name)
        document[name] = write_table(getattr(config, name))
    for at, peer in enumerate(config.peers):
        check_table(peer, f"peers[{at}]")
    document["peers"] = [write_table(peer) for peer in config.peers]
    _check_together(config)
    return tomli_w.dumps(document)


def save_node_config(path: Path, config: NodeConfig) -> None:
    """Write node.toml.

    Raises:
        ConfigError: a field is out of range, or the file cannot be written.
    """
    content = dump_node_config(config)
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def _check_together(config: NodeConfig) -> None:
    consensus = config.consensus
    if not (config.ablation.fsync or config.ablation.unsafe):
        refuse("ablation.fsync", False, "true, or ablation.unsafe true as well: without it data is lost in a crash")
    if consensus.view_timeout_ms_max < consensus.view_timeout_ms:
        refuse(
            "consensus.view_timeout_ms_max",
            consensus.view_timeout_ms_max,
            f"at least consensus.view_timeout_ms ({consensus.view_timeout_ms})",
        )
    if len(config.peers) > PEERS_MAX:
        refuse("peers", f"{len(config.peers)} tables", f"at most {PEERS_MAX}")
    for name in ("validator", "name"):
        seen = set()
        for at, peer in enumerate(config.peers):
            value = getattr(peer, name)
            if value in seen:
                refuse(f"peers[{at}].{name}", value.hex() if isinstance(value, bytes) else value, "unique among peers")
            seen.add(value)
    if (config.rpc.host, config.rpc.port) == (config.gateway.host, config.gateway.port):
        refuse("gateway.port", config.gateway.port, "another port than rpc.port on one host")
