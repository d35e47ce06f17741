"""The Python client: signs locally, sends, reads, follows transactions, survives nodes that go away."""

from chain.client.abi import Abi, parse_abi
from chain.client.client import Client
from chain.client.errors import (
    CallFailed,
    ClientError,
    NodesUnreachable,
    RpcFailed,
    TransactionError,
    TransactionExpired,
    TransactionFailed,
    TransactionPending,
    TransactionRefused,
)
from chain.client.receipts import ContractEvent, Outcome, Receipt, SendResult, receipt_of
from contracts.system import SYSTEM_ADDRESS

__all__ = [
    "SYSTEM_ADDRESS", "Abi", "CallFailed", "Client", "ClientError", "ContractEvent", "NodesUnreachable", "Outcome",
    "Receipt", "RpcFailed", "SendResult", "TransactionError", "TransactionExpired", "TransactionFailed",
    "TransactionPending", "TransactionRefused", "parse_abi", "receipt_of",
]  # fmt: skip
