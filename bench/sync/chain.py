"""A chain made in one process, as if a network had made it: executed, certified by its validators' keys, stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chain.codec import encode, tagged_digest
from chain.crypto import PrivateKey, Scheme
from chain.model.block import (
    Certificate,
    Header,
    Proposal,
    VoteSignature,
    encode_header,
    header_hash,
    proposal_digest,
    snapshot_height,
)  # fmt: skip
from chain.model.genesis import Genesis, genesis_header
from chain.model.merkle import chain_state_root, merkle_root, unpack_writes, write_leaves
from chain.model.signing import ValidatorKey, sign_transaction
from chain.model.transaction import Transaction
from chain.model.validators import ValidatorSchedule
from chain.store import JournalProposal, StateReader, StoredBlock, open_store
from chain.types import ADDRESS_BYTES, Height, View
from consensus.messages import MessageType, signing_bytes
from contracts.runtime import Machine
from contracts.sources import load_source
from contracts.system.membership import members_of_genesis, scheduled_set
from contracts.system.registry import SYSTEM_ADDRESS
from executor.outcome import ExecutionInput
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.state import BaseState
from executor.transactions import ChainContext

BLOCK_MS: Final = 100
TAG_CONTRACT: Final = b"headrace/contract/1"
RUN_BLOCKS: Final = 64  # made durable at once


class ChainMaker:
    """Adds blocks to a data folder that nobody else has open; `close` it before a node opens the folder."""

    def __init__(self, folder: Path, genesis: Genesis, keys: Sequence[ValidatorKey]) -> None:
        """`keys` are those of all validators that certify, now and later."""
        parameters = genesis.parameters
        self.genesis = genesis
        self.tip = genesis_header(genesis)
        self.schedule = ValidatorSchedule.of_genesis(genesis)
        self.store = open_store(folder, self.tip, snapshot_interval=parameters.snapshot_interval)
        self._keys = {key.validator_id: key for key in keys}
        self._context = ChainContext(
            chain_id=self.tip.chain_id, rule_set=parameters.rule_set, deployers=tuple(sorted(genesis.deployers)),
            transaction_gas_max=parameters.transaction_gas_max, window=parameters.window,
            validators=members_of_genesis(genesis),
        )  # fmt: skip
        self._machine = Machine(parameters.rule_set)
        self._base = BaseState(StateReader(self.store.state.path))
        self._roots: dict[int, bytes] = {}
        self._pending: list[tuple[Header, StoredBlock, JournalProposal]] = []

    def add(self, transactions: Sequence[Transaction]) -> Header:
        """The next block; durable with a later one or at `flush`."""
        parent, height = self.tip, self.tip.height + 1
        proposal = Proposal(
            chain_id=parent.chain_id, height=height, timestamp_ms=parent.time_ms + BLOCK_MS,
            proposer=self.schedule.at(height).leader(View(0)), hashes=b"".join([item.hash for item in transactions]),
        )  # fmt: skip
        raws = [transaction.raw for transaction in transactions]
        block = ExecutionInput.of(height=height, time_ms=proposal.timestamp_ms, transactions=raws)
        done = execute_serially(
            block, base=self._base, machine=self._machine, chain=self._context, progress=NoProgress()
        )
        writes = unpack_writes(done.packed_writes)
        hashes = [transaction.hash for transaction in transactions]
        header = Header(
            chain_id=parent.chain_id, height=height, time_ms=proposal.timestamp_ms, parent_hash=header_hash(parent),
            proposal_digest=proposal_digest(proposal), rule_set=parent.rule_set,
            validator_set_hash=self.schedule.at(height).digest, transaction_count=len(hashes),
            transaction_root=merkle_root(hashes), receipt_root=merkle_root(done.receipts), gas_used=done.gas_used,
            state_root=chain_state_root(parent.state_root, merkle_root(write_leaves(writes))),
            snapshot_root=self._snapshot_root(height),
        )  # fmt: skip
        stored = StoredBlock(
            header=encode_header(header), certificate=encode(self.certify(header)),
            proposal_digest=header.proposal_digest, skipped=(), hashes=b"".join(hashes), receipts=tuple(done.receipts),
            writes=done.packed_writes,
        )  # fmt: skip
        scheduled = scheduled_set(done.packed_writes)
        if scheduled is not None:
            self.schedule.add(height + self.genesis.parameters.window + 1, scheduled)
        self._pending.append((header, stored, JournalProposal(height, header.proposal_digest, encode(proposal), raws)))
        self._base.append(height, dict(writes))
        self.tip = header
        interval = self.genesis.parameters.snapshot_interval
        if len(self._pending) >= RUN_BLOCKS or (interval and height % interval == 0):
            self.flush()
        return header

    def certify(self, header: Header) -> Certificate:
        """By a quorum of the set in force at its height."""
        validators, digest = self.schedule.at(header.height), header_hash(header)
        message = signing_bytes(
            chain_id=header.chain_id, kind=MessageType.CHECKPOINT, view=View(0), height=Height(header.height),
            digest=digest,
        )  # fmt: skip
        signers = sorted(member.id for member in validators.members if member.id in self._keys)
        chosen = next(signers[:count] for count in range(1, len(signers) + 1) if validators.is_quorum(signers[:count]))
        signatures = tuple(
            VoteSignature(validator=signer, signature=self._keys[signer].sign(message)) for signer in chosen
        )
        return Certificate(
            kind=MessageType.CHECKPOINT, view=0, height=header.height, digest=digest, signatures=signatures
        )

    def _snapshot_root(self, height: int) -> bytes:
        at = snapshot_height(height, self.genesis.parameters.snapshot_interval)
        return b"" if at is None else self._roots.pop(at)

    def flush(self) -> None:
        """All blocks so far are durable."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        self.store.journal.write(proposals=[proposal for _, _, proposal in pending])
        self.store.blocks.append([block for _, block, _ in pending])
        self.store.state.apply(
            [(header.height, header.state_root, unpack_writes(block.writes)) for header, block, _ in pending]
        )
        self._base.refresh()
        at = self.store.state.snapshot_height
        if at is not None and self.store.snapshots.head(at) is None:
            with self.store.state.snapshot(at) as pairs:
                self._roots[at] = self.store.snapshots.write(at, pairs).root

    def close(self) -> None:
        self.flush()
        self._base.close()
        self.store.close()


class SmallBlocks:
    """Blocks of a few payments between SmallBank accounts."""

    GAS: Final = 200_000
    GAS_CREATE: Final = 100_000_000
    ACCOUNTS_PER_CALL: Final = 250

    def __init__(self, maker: ChainMaker, operator: PrivateKey, *, accounts: int, payments: int) -> None:
        """`accounts` is a multiple of 250; `payments` are in each block. The first blocks make contract, accounts."""
        self._maker = maker
        self._accounts = accounts
        self._payments = payments
        self._payer = PrivateKey.from_secret(Scheme.ED25519, bytes(31) + b"\x01")
        self._sent = 0
        source = load_source("library/smallbank")
        first = self._sign(operator, SYSTEM_ADDRESS, "deploy", ("bench.smallbank", source, b"\x90"), self.GAS_CREATE)
        maker.add([first])
        self.contract = tagged_digest(TAG_CONTRACT, first.hash)[-ADDRESS_BYTES:]
        for at in range(0, accounts, self.ACCOUNTS_PER_CALL):
            arguments = (at, self.ACCOUNTS_PER_CALL, 1_000_000, 1_000_000)
            maker.add([self._sign(operator, self.contract, "create_accounts", arguments, self.GAS_CREATE)])

    def add(self, blocks: int) -> None:
        """So many more blocks."""
        for _ in range(blocks):
            self._maker.add([self.payment() for _ in range(self._payments)])

    def payment(self, *, expiry: int | None = None) -> Transaction:
        """The next payment, by everybody in turn. Without an `expiry` it lives as long as one may."""
        self._sent += 1
        source = self._sent * 7 % self._accounts
        target = (source + 1 + self._sent % (self._accounts - 1)) % self._accounts
        return self._sign(self._payer, self.contract, "send_payment", (source, target, 1), self.GAS, expiry)

    def _sign(
        self, key: PrivateKey, target: bytes, method: str, arguments: tuple[int | str | bytes, ...], gas: int,
        expiry: int | None = None,
    ) -> Transaction:  # fmt: skip
        tip, lifetime = self._maker.tip, self._maker.genesis.parameters.lifetime_max
        self._sent += method != "send_payment"
        return sign_transaction(
            key, chain_id=tip.chain_id, target=target, method=method, arguments=arguments, gas_limit=gas,
            expiry=tip.height + lifetime if expiry is None else expiry, nonce=self._sent.to_bytes(16, "big"),
        )  # fmt: skip
