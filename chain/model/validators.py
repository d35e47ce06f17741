"""The validator set: who votes, with which weight, who leads a view, how much is a quorum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chain.codec import Record, encode, tagged_digest
from chain.errors import ConfigError
from chain.types import ADDRESS_BYTES, Digest, ValidatorId, View

TAG_VALIDATOR_SET: Final = b"headrace/validator-set/1"
TAG_VALIDATOR_ID: Final = b"headrace/validator-id/1"
VALIDATORS_MIN: Final = 4
VALIDATORS_MAX: Final = 100


class Validator(Record, frozen=True, kw_only=True):
    name: str  # organisation and node, for people
    public_key: bytes  # Ed25519, 32 bytes
    weight: int

    @property
    def id(self) -> ValidatorId:
        return validator_id(self.public_key)


def validator_id(public_key: bytes) -> ValidatorId:
    return ValidatorId(tagged_digest(TAG_VALIDATOR_ID, public_key)[-ADDRESS_BYTES:])


class ValidatorSet:
    """Immutable; ordered as in genesis (the order decides the leader).

    W is the total weight, F = (W - 1) // 3, a quorum weighs at least W - F; "more than F" contains an honest one.
    """

    __slots__ = ("_by_id", "digest", "members", "quorum_weight", "tolerated_weight", "total_weight")

    def __init__(self, members: Iterable[Validator]) -> None:
        self.members: tuple[Validator, ...] = tuple(members)
        self._by_id: dict[ValidatorId, Validator] = {member.id: member for member in self.members}
        if len(self._by_id) != len(self.members):
            raise ConfigError("validators: two members have one public key")
        for member in self.members:
            if member.weight < 1:
                raise ConfigError(f"validators: {member.name} has weight {member.weight}, must be at least 1")
        self.total_weight: int = sum(member.weight for member in self.members)
        self.tolerated_weight: int = (self.total_weight - 1) // 3
        self.quorum_weight: int = self.total_weight - self.tolerated_weight
        self.digest: Digest = tagged_digest(TAG_VALIDATOR_SET, encode(self.members))

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, validator: object) -> bool:
        return validator in self._by_id

    def get(self, validator: ValidatorId) -> Validator | None:
        return self._by_id.get(validator)

    def leader(self, view: View) -> ValidatorId:
        return self.members[view % len(self.members)].id

    def ids(self) -> tuple[ValidatorId, ...]:
        return tuple(self._by_id)

    def weight(self, validators: Iterable[ValidatorId]) -> int:
        """Weight of the distinct members among `validators`; strangers weigh nothing."""
        by_id = self._by_id
        return sum(by_id[validator].weight for validator in sorted(set(validators)) if validator in by_id)

    def is_quorum(self, validators: Iterable[ValidatorId]) -> bool:
        return self.weight(validators) >= self.quorum_weight

    def has_honest(self, validators: Iterable[ValidatorId]) -> bool:
        """More than F: at least one of them is honest."""
        return self.weight(validators) > self.tolerated_weight
