"""Contracts by address or by name."""

from __future__ import annotations

from chain.rpc.definitions import Call, unhex
from chain.rpc.errors import invalid_params, not_found
from chain.types import ADDRESS_BYTES

NAME_CHARS_MAX = 128


async def resolve_target(call: Call, target: str, name: str = "target") -> bytes:
    """The address that a parameter names.

    Raises:
        RpcError: INVALID_PARAMS: neither an address nor a name; NOT_FOUND: no contract has that name.
    """
    if target.startswith("0x"):
        return unhex(target, name, length=ADDRESS_BYTES)
    if not 0 < len(target) <= NAME_CHARS_MAX:
        raise invalid_params(f"{name}: must be an address (0x and 40 hex digits) or a contract's name")
    address = await call.services.resolve(target)
    if address is None:
        raise not_found(f"{name}: no contract is named {target!r}")
    return address
