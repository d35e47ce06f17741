"""Errors a caller is told, each with a stable number. A JSON-RPC error is an HTTP 200 with its code."""

from __future__ import annotations

from typing import Any, Final

from chain.errors import BadInput

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

BAD_SIGNATURE: Final = -32001
DUPLICATE: Final = -32002
EXPIRED: Final = -32003
POOL_FULL: Final = -32004
NOT_FOUND: Final = -32005
WRONG_CHAIN: Final = -32006
TIMEOUT: Final = -32007
TOO_LARGE: Final = -32008
NOT_READY: Final = -32009
MALFORMED: Final = -32010
EXPIRY_TOO_FAR: Final = -32011
GAS_LIMIT: Final = -32012
SENDER_LIMIT: Final = -32013
BUSY: Final = -32014
HALTED: Final = -32015
PRUNED: Final = -32016

# number -> (name in `error.data.reason`, what it means and what to do about it)
ERRORS: Final[dict[int, tuple[str, str]]] = {
    PARSE_ERROR: ("parse_error", "The body is not JSON (RFC 8259), not UTF-8, or nested too deeply."),
    INVALID_REQUEST: ("invalid_request", "JSON, but not a JSON-RPC 2.0 request, or an empty batch."),
    METHOD_NOT_FOUND: ("method_not_found", "No such method; `rpc.discover` lists them."),
    INVALID_PARAMS: ("invalid_params", "A parameter is missing, unknown, of another type or out of range."),
    INTERNAL_ERROR: ("internal_error", "A bug of the node; its log has the details under the same `error_id`."),
    BAD_SIGNATURE: ("bad_signature", "The signature does not match the public key and the signed body."),
    DUPLICATE: ("duplicate", "The transaction is already in the pool or executed; its fate is that of its hash."),
    EXPIRED: ("expired", "The expiry is past: sign again with a later one."),
    POOL_FULL: ("pool_full", "The pool has no room; send the same transaction again later."),
    NOT_FOUND: ("not_found", "Nothing certified is known under that hash, height, name or address."),
    WRONG_CHAIN: ("wrong_chain", "Signed for another chain id."),
    TIMEOUT: ("timeout", "Not reached in the time given. The transaction is not lost: ask again by its hash."),
    TOO_LARGE: ("too_large", "The request, a batch or the answer is over a limit; the text says which."),
    NOT_READY: ("not_ready", "The node has not reached `min_height`, or is still starting."),
    MALFORMED: ("malformed", "The bytes are not the canonical encoding of a transaction or signed read."),
    EXPIRY_TOO_FAR: ("expiry_too_far", "The expiry is further ahead than the chain allows."),
    GAS_LIMIT: ("gas_limit", "The gas limit is outside what the chain allows."),
    SENDER_LIMIT: ("sender_limit", "The account has too many transactions waiting."),
    BUSY: ("busy", "Too many requests wait or run at this moment; try again, or another node."),
    HALTED: ("halted", "The chain or this node has stopped on purpose; `headrace status` says why."),
    PRUNED: ("pruned", "That history is no longer kept by this node; ask another one."),
}
NUMBERS: Final[dict[str, int]] = {name: number for number, (name, _) in ERRORS.items()}


class RpcError(Exception):
    """Ends a request with a JSON-RPC error. `data` is shown to the caller beside the reason's name."""

    def __init__(self, number: int, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.number = number
        self.message = message
        self.data = data or {}

    @classmethod
    def of(cls, error: BadInput, data: dict[str, Any] | None = None) -> RpcError:
        """The error for bad input found below the API; a code without a number of its own is `malformed`."""
        return cls.coded(error.code, error.message, data)

    @classmethod
    def coded(cls, code: str, message: str, data: dict[str, Any] | None = None) -> RpcError:
        number = NUMBERS.get(code)
        if number is None:
            return cls(MALFORMED, f"{code}: {message}", data)
        return cls(number, message, data)

    def document(self) -> dict[str, Any]:
        """The `error` member of a response."""
        return {
            "code": self.number,
            "message": self.message,
            "data": {"reason": ERRORS[self.number][0], **self.data},
        }


def invalid_params(message: str) -> RpcError:
    return RpcError(INVALID_PARAMS, message)


def not_found(what: str) -> RpcError:
    return RpcError(NOT_FOUND, what)
