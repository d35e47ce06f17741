"""The API of a node: JSON-RPC 2.0 over HTTP, a binary way in for volume, health, metrics.

`services` says what a node must provide, `definitions` and `methods` declare each method once (validation, the
OpenRPC document and docs/rpc.md follow from that), `dispatch` is JSON-RPC without HTTP, `server` is HTTP.
"""

from chain.rpc.limits import RpcLimits
from chain.rpc.server import RpcServer
from chain.rpc.services import NodeServices

__all__ = ["NodeServices", "RpcLimits", "RpcServer"]
