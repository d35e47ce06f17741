"""A chain that a benchmark sets up: a state store, accounts, and contracts deployed and filled by real transactions.

The set-up runs through the serial executor in this process, in blocks, before anything is measured. Signatures are not
made: they are checked before execution, by another part of the node, and are no part of what is measured here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.errors import BenchError
from bench.workloads.workload import Call, Deploy, Setup, Start
from bench.workloads.workload import account as known_account
from chain.codec import Value, decode, encode, pack
from chain.crypto import PrivateKey
from chain.model.block import Receipt
from chain.model.merkle import chain_state_root, root_of_hashes
from chain.model.transaction import TransactionBody, join_transaction, transaction_hash
from chain.store.state import StateReader, StateStore
from contracts.runtime import Machine
from contracts.runtime.machine import RULE_SETS
from contracts.system.contract import contract_address
from contracts.system.registry import SYSTEM_ADDRESS
from executor.outcome import ExecutionInput
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.state import BaseState
from executor.transactions import ChainContext

RULE_SET: Final = max(RULE_SETS)
CHAIN: Final = ChainContext(
    chain_id=hashlib.sha256(b"headrace benchmark").digest(),
    rule_set=RULE_SET,
    transaction_gas_max=100_000_000,
    deployers=(),
)
START_MS: Final = 1_790_000_000_000  # block times: ten a second from here
BLOCK_MS: Final = 100
EXPIRY: Final = 10**6
GAS_LIMIT_SETUP: Final = 100_000_000
OPERATOR: Final = "admin"  # the account of whoever deploys
SETUP_BLOCK: Final = 1_000  # transactions
SIGNATURE: Final = bytes(64)
_ACCEPTED: Final = frozenset({pack(None), pack("ok"), b""})


class Made(NamedTuple):
    """A raw transaction and what its node would know of it."""

    raw: bytes
    hash: bytes
    sender: bytes


def block_of(height: int, transactions: Sequence[Made]) -> ExecutionInput:
    """A block as a node hands it to its engine."""
    return ExecutionInput(
        height=height,
        time_ms=START_MS + height * BLOCK_MS,
        hashes=b"".join([made.hash for made in transactions]),
        senders=b"".join([made.sender for made in transactions]),
        transactions=tuple([made.raw for made in transactions]),
    )


class World:
    """The state being set up; `close` leaves it in `folder` for engines to copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._store = StateStore(folder, chain_id=CHAIN.chain_id, genesis_state_root=bytes(32))
        self._base = BaseState(StateReader(folder))
        self._machine = Machine(CHAIN.rule_set)
        self._root = bytes(32)
        self._nonce = 0
        self.transactions = 0  # of the set-up

    @property
    def height(self) -> int:
        return self._store.height()

    def address(self, account: str) -> bytes:
        return self._key(account).address

    def transaction(
        self, account: str, target: bytes, method: str, arguments: tuple[Value, ...], gas_limit: int
    ) -> Made:
        """The next transaction of this world; each has a nonce of its own."""
        key = self._key(account)
        self._nonce += 1
        body = encode(
            TransactionBody(
                chain_id=CHAIN.chain_id,
                scheme=int(key.scheme),
                public_key=key.public_key,
                nonce=self._nonce.to_bytes(16, "big"),
                expiry=EXPIRY,
                target=target,
                method=method,
                arguments=pack(arguments),
                gas_limit=gas_limit,
            )
        )
        return Made(join_transaction(body, SIGNATURE), transaction_hash(body), key.address)

    def deploy(self, name: str, source: str, *arguments: Value, account: str = "admin") -> bytes:
        """The address of a new contract.

        Raises:
            BenchError: the deployment failed.
        """
        made = self.transaction(
            account, SYSTEM_ADDRESS, "deploy", (name, source, pack(arguments)), GAS_LIMIT_SETUP
        )
        address = contract_address(made.hash)
        self._run([made], accepted=frozenset({pack(address)}))
        return address

    def set_up(self, setup: Callable[[Start], Setup]) -> bytes:
        """Run the set-up of a cluster's workload; where its calls go to.

        Raises:
            BenchError: a call of it failed.
        """
        steps = setup(Start(operator=self.address(OPERATOR), now_ms=START_MS))
        answer: bytes | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as ended:
                return bytes(ended.value)
            answer = None
            if isinstance(step, Deploy):
                answer = self.deploy(step.name, step.source, *step.arguments, account=OPERATOR)
                continue
            self.run(
                self.transaction(call.signer or OPERATOR, call.target, call.method, call.arguments, call.gas_limit)
                for call in step
            )

    def call(self, call: Call, target: bytes) -> Made:
        """The transaction of a workload's call."""
        return self.transaction(call.signer or OPERATOR, target, call.method, call.arguments, call.gas_limit)

    def run(self, transactions: Iterable[Made]) -> None:
        """Execute set-up transactions in this order.

        Raises:
            BenchError: one failed, or answered anything but nothing or "ok".
        """
        block: list[Made] = []
        for made in transactions:
            block.append(made)
            if len(block) == SETUP_BLOCK:
                self._run(block)
                block = []
        if block:
            self._run(block)

    def close(self) -> None:
        self._base.close()
        self._store.close()

    def _key(self, account: str) -> PrivateKey:
        return known_account(account)

    def _run(self, transactions: Sequence[Made], accepted: frozenset[bytes] = _ACCEPTED) -> None:
        height = self.height + 1
        result = execute_serially(
            block_of(height, transactions), base=self._base, machine=self._machine, chain=CHAIN, progress=NoProgress()
        )
        for encoded in result.receipts:
            receipt = decode(Receipt, encoded)
            if receipt.status or receipt.result not in accepted:
                raise BenchError(f"set-up failed: status {receipt.status} {receipt.error} {receipt.result.hex()}")
        root = chain_state_root(self._root, root_of_hashes(result.leaf_hashes))
        self._store.apply([(height, root, sorted(result.writes.items()))])
        self._base.refresh()
        self._root = root
        self.transactions += len(transactions)
