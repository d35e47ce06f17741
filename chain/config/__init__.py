"""What may differ from node to node: `node.toml`. What must be equal everywhere is in genesis."""

from chain.config.node import (
    ConsensusConfig,
    CryptoConfig,
    EndpointConfig,
    ExecutorConfig,
    GatewayConfig,
    IdentityConfig,
    LogConfig,
    NodeConfig,
    PathsConfig,
    PeerConfig,
    PoolConfig,
    RpcConfig,
    dump_node_config,
    load_node_config,
    parse_node_config,
    save_node_config,
)

__all__ = [
    "ConsensusConfig",
    "CryptoConfig",
    "EndpointConfig",
    "ExecutorConfig",
    "GatewayConfig",
    "IdentityConfig",
    "LogConfig",
    "NodeConfig",
    "PathsConfig",
    "PeerConfig",
    "PoolConfig",
    "RpcConfig",
    "dump_node_config",
    "load_node_config",
    "parse_node_config",
    "save_node_config",
]
