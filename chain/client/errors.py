"""What can go wrong for a caller of a node. No error ever loses the hash of a transaction that may be on its way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chain.errors import HeadraceError

if TYPE_CHECKING:
    from chain.client.receipts import Receipt

# Numbers of the API's errors that the client acts on; all of them are in docs/rpc.md.
DUPLICATE = -32002
EXPIRED = -32003
NOT_FOUND = -32005
TIMEOUT = -32007
NOT_READY = -32009
BUSY = -32014
HALTED = -32015
POOL_FULL = -32004


class ClientError(HeadraceError):
    """Root of the client's errors."""


class RpcFailed(ClientError):
    """A node answered with an error: `code` is its number, `reason` its name."""

    def __init__(self, code: int, message: str, data: Mapping[str, Any] | None = None) -> None:
        self.code = code
        self.data: Mapping[str, Any] = data or {}
        self.reason = str(self.data.get("reason", ""))
        super().__init__(f"{message} ({self.reason or 'error'} {code})")
        self.message = message


class NodesUnreachable(ClientError):
    """No node could be asked in the time given; `failures` says why, by address."""

    def __init__(self, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        super().__init__("no node answers: " + "; ".join(f"{url}: {why}" for url, why in self.failures.items()))


class TransactionError(ClientError):
    """About one transaction: `hash` is its identity, `raw` its signed bytes (sending them again is harmless)."""

    def __init__(self, message: str, *, tx_hash: bytes, raw: bytes) -> None:
        super().__init__(f"transaction 0x{tx_hash.hex()}: {message}")
        self.hash = tx_hash
        self.raw = raw


class TransactionPending(TransactionError):
    """Its fate is not known in the time given. Ask again by the hash, or send the same bytes again."""


class TransactionExpired(TransactionError):
    """It was not executed before its expiry and never will be."""


class TransactionRefused(TransactionError):
    """No node takes it: `code` and `reason` as in the API's table of errors."""

    def __init__(self, failure: RpcFailed, *, tx_hash: bytes, raw: bytes) -> None:
        super().__init__(str(failure), tx_hash=tx_hash, raw=raw)
        self.code = failure.code
        self.reason = failure.reason


class TransactionFailed(TransactionError):
    """It was executed and failed: `receipt` is certified, its `error` says why. It left no writes and no events."""

    def __init__(self, receipt: Receipt, *, raw: bytes) -> None:
        super().__init__(f"failed: {receipt.error} (status {receipt.status})", tx_hash=receipt.hash, raw=raw)
        self.receipt = receipt


class CallFailed(ClientError):
    """A read of a contract failed; `error` is the contract's reason."""

    def __init__(self, *, method: str, status: int, error: str) -> None:
        super().__init__(f"{method} failed: {error} (status {status})")
        self.status = status
        self.error = error
