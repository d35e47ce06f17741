"""A small signed chain for tests: real hashes, roots and certificates, nothing random."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from nacl.signing import SigningKey

from chain.codec import encode, pack
from chain.model.block import (
    Certificate,
    Event,
    Header,
    Proposal,
    Receipt,
    VoteSignature,
    WriteSet,
    encode_header,
    header_hash,
)  # fmt: skip
from chain.model.block import proposal_digest as digest_of_proposal
from chain.model.genesis import ChainParameters, Genesis, genesis_header
from chain.model.merkle import merkle_root, pack_writes, state_root
from chain.model.transaction import TransactionBody, join_transaction, split_transaction, transaction_hash
from chain.model.validators import Validator, ValidatorSet
from chain.store import StoredBlock
from chain.types import Height, View
from consensus.messages import MessageType, signing_bytes

CONTRACT = bytes(range(20))
OTHER_CONTRACT = bytes(range(1, 21))


@dataclass
class Made:
    """A block with what a node would have beside it."""

    header: Header
    block: StoredBlock
    proposal: bytes
    bodies: list[bytes]  # of the whole proposal, skipped ones included
    writes: WriteSet
    hashes: list[bytes]


@dataclass
class ChainFactory:
    """Makes consecutive blocks; `made[height - 1]` is the block of a height."""

    name: str = "test"
    weights: tuple[int, ...] = (1, 1, 1, 1)
    window: int = 8
    made: list[Made] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = [
            SigningKey(hashlib.sha256(f"{self.name}/{at}".encode()).digest()) for at in range(len(self.weights))
        ]
        self.genesis = Genesis(
            name=self.name,
            created_ms=1_700_000_000_000,
            parameters=ChainParameters(window=self.window),
            validators=tuple(
                Validator(name=f"bank {at}", public_key=bytes(key.verify_key), weight=weight)
                for at, (key, weight) in enumerate(zip(self.keys, self.weights, strict=True))
            ),
            ca_certificate_sha256=bytes(32),
            deployers=(CONTRACT,),
        )
        self.genesis_header = genesis_header(self.genesis)
        self.validators = ValidatorSet(self.genesis.validators)

    @property
    def tip(self) -> Header:
        return self.made[-1].header if self.made else self.genesis_header

    def transaction(self, height: int, number: int) -> bytes:
        body = TransactionBody(
            chain_id=self.genesis_header.chain_id, scheme=1, public_key=bytes(32),
            nonce=height.to_bytes(8, "big") + number.to_bytes(8, "big"), expiry=height + 100, target=CONTRACT,
            method="pay", arguments=pack((number,)), gas_limit=1_000,
        )  # fmt: skip
        return join_transaction(encode(body), bytes(64))

    def block(
        self, writes: WriteSet, *, transactions: int = 3, skipped: tuple[int, ...] = (), signers: int = 3
    ) -> Made:
        """The next block. Each executed transaction emits one event of each contract, `Paid` and `Moved`."""
        height = self.tip.height + 1
        bodies = [self.transaction(height, number) for number in range(transactions + len(skipped))]
        hashes = [transaction_hash(_body_of(raw)) for raw in bodies]
        proposal = Proposal(
            chain_id=self.genesis_header.chain_id, height=height, timestamp_ms=self.tip.time_ms + 1_000,
            proposer=self.validators.ids()[0], hashes=b"".join(hashes),
        )  # fmt: skip
        executed = [item for at, item in enumerate(hashes) if at not in skipped]
        receipts = tuple(
            encode(
                Receipt(
                    transaction_hash=item, status=at % 2, gas_used=100 + at, result=pack(at), error="no" * (at % 2),
                    events=(
                        Event(contract=CONTRACT, name="Paid", values=pack((at,))),
                        Event(contract=OTHER_CONTRACT, name="Moved", values=pack((at, height))),
                    ),
                )
            )
            for at, item in enumerate(executed)
        )  # fmt: skip
        header = Header(
            chain_id=self.genesis_header.chain_id, height=height, time_ms=proposal.timestamp_ms,
            parent_hash=header_hash(self.tip), proposal_digest=digest_of_proposal(proposal), rule_set=1,
            validator_set_hash=self.validators.digest, transaction_count=len(executed),
            transaction_root=merkle_root(executed), receipt_root=merkle_root(receipts),
            state_root=state_root(self.tip.state_root, writes), gas_used=1_000,
        )  # fmt: skip
        made = Made(
            header=header,
            block=StoredBlock(
                header=encode_header(header), certificate=encode(self.certify(header, signers)),
                proposal_digest=header.proposal_digest, skipped=skipped, hashes=b"".join(executed), receipts=receipts,
                writes=pack_writes(writes),
            ),
            proposal=encode(proposal),
            bodies=bodies,
            writes=writes,
            hashes=[bytes(item) for item in executed],
        )  # fmt: skip
        self.made.append(made)
        return made

    def certify(self, header: Header, signers: int = 3) -> Certificate:
        """A certificate by the first `signers` validators."""
        digest = header_hash(header)
        message = signing_bytes(
            chain_id=header.chain_id, kind=MessageType.CHECKPOINT, view=View(0), height=Height(header.height),
            digest=digest,
        )  # fmt: skip
        signatures = sorted(
            (
                VoteSignature(validator=member.id, signature=key.sign(message).signature)
                for key, member in list(zip(self.keys, self.genesis.validators, strict=True))[:signers]
            ),
            key=lambda item: item.validator,
        )
        return Certificate(
            kind=MessageType.CHECKPOINT, view=0, height=header.height, digest=digest, signatures=tuple(signatures)
        )


def _body_of(raw: bytes) -> bytes:
    return split_transaction(raw)[0]


def key_of(number: int) -> bytes:
    """A state key like a contract's."""
    return CONTRACT + f"balances\x00{number:06d}".encode()


def value_of(number: int, height: int) -> bytes:
    return pack((number, height))


def some_writes(height: int, count: int = 5) -> WriteSet:
    """Keys that overlap from height to height, with a delete now and then."""
    numbers = sorted({(height * 7 + step * 3) % 40 for step in range(count)})
    return [(key_of(number), None if (number + height) % 5 == 0 else value_of(number, height)) for number in numbers]
