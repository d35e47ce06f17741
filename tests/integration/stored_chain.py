"""A data folder with a real chain in it, as a node leaves it: every block executed, none of it signed by anyone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from chain.codec import encode
from chain.model.block import Certificate, Header, Proposal, encode_header, header_hash, proposal_digest
from chain.model.genesis import Genesis, genesis_header
from chain.model.merkle import chain_state_root, merkle_root, unpack_writes, write_leaves
from chain.store import JournalProposal, StateReader, StoredBlock, open_store
from consensus.messages import MessageType
from contracts.runtime import Machine
from executor.outcome import ExecutionInput
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.state import BaseState
from executor.transactions import ChainContext
from tests.unit.executor.workbench import hash_of
from tests.unit.store.factory import ChainFactory


class StoredChainMaker:
    """Executes blocks and stores them under `folder`; `close` before anyone else opens it for writing."""

    def __init__(self, folder: Path, genesis: Genesis | None = None) -> None:
        self.genesis = msgspec.structs.replace(ChainFactory().genesis, deployers=()) if genesis is None else genesis
        self.folder = folder
        self.header = genesis_header(self.genesis)
        self.store = open_store(folder, self.header)
        self._base = BaseState(StateReader(self.store.state.path))
        self._machine = Machine(self.genesis.parameters.rule_set)

    def add(self, transactions: Sequence[bytes], *, skipped: Sequence[bytes] = ()) -> Header:
        """The next block; `skipped` stand first in its proposal and are not executed."""
        parent = self.header
        height, parameters = parent.height + 1, self.genesis.parameters
        bodies = [*skipped, *transactions]
        proposal = Proposal(
            chain_id=parent.chain_id, height=height, timestamp_ms=parent.time_ms + 1_000, proposer=bytes(20),
            hashes=b"".join(hash_of(raw) for raw in bodies),
        )  # fmt: skip
        context = ChainContext(
            chain_id=parent.chain_id, rule_set=parameters.rule_set, deployers=tuple(sorted(self.genesis.deployers)),
            transaction_gas_max=parameters.transaction_gas_max,
        )  # fmt: skip
        block = ExecutionInput.of(height=height, time_ms=proposal.timestamp_ms, transactions=transactions)
        done = execute_serially(
            block, base=self._base, machine=self._machine, chain=context, progress=NoProgress()
        )
        writes = unpack_writes(done.packed_writes)
        hashes = [hash_of(raw) for raw in transactions]
        digest = proposal_digest(proposal)
        self.header = Header(
            chain_id=parent.chain_id, height=height, time_ms=proposal.timestamp_ms, parent_hash=header_hash(parent),
            proposal_digest=digest, rule_set=parent.rule_set, validator_set_hash=parent.validator_set_hash,
            transaction_count=len(hashes), transaction_root=merkle_root(hashes),
            receipt_root=merkle_root(done.receipts), gas_used=done.gas_used,
            state_root=chain_state_root(parent.state_root, merkle_root(write_leaves(writes))),
        )  # fmt: skip
        certificate = Certificate(
            kind=MessageType.CHECKPOINT, view=0, height=height, digest=header_hash(self.header), signatures=()
        )
        self.store.journal.write(proposals=[JournalProposal(height, digest, encode(proposal), bodies)])
        self.store.blocks.append(
            [
                StoredBlock(
                    header=encode_header(self.header), certificate=encode(certificate), proposal_digest=digest,
                    skipped=tuple(range(len(skipped))), hashes=b"".join(hashes), receipts=tuple(done.receipts),
                    writes=done.packed_writes,
                )
            ]
        )  # fmt: skip
        self.store.state.apply([(height, self.header.state_root, writes)])
        self._base.refresh()
        return self.header

    def close(self) -> None:
        self._base.close()
        self.store.close()
