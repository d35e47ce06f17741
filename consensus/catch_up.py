"""Noticing that this node is behind, and asking for blocks: one bounded range at a time."""

from __future__ import annotations

from typing import Final

from chain.model.validators import ValidatorSet
from chain.types import GENESIS_HEIGHT, Height, ValidatorId
from consensus.effects import FetchBlocks
from consensus.epoch import Epoch

STRANGERS_MAX: Final = 128  # claims kept of peers that do not vote in this epoch
FETCH_BLOCKS_MAX: Final = 32  # blocks asked for at a time


class CatchUp:
    """What the others have certified, or soon will, by their own words. Only a reason to ask: blocks prove themselves.

    A claim that led nowhere for a retransmission period is dropped; whoever made it will say it again if it is true.
    """

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._validators: ValidatorSet = epoch.validators
        self._claims: dict[ValidatorId, Height] = {}
        self._sources: tuple[ValidatorId, ...] = ()
        self.outstanding: tuple[Height, Height] | None = None
        self.is_patient = True  # False after a retransmission period without progress

    def note(self, sender: ValidatorId, height: int) -> None:
        """`sender` says that it has block `height`, or has just executed it."""
        if sender in self._validators and height > self._claims.get(sender, GENESIS_HEIGHT):
            self._claims[sender] = Height(height)

    def note_stranger(self, sender: ValidatorId, height: int) -> None:
        """A peer that does not vote in this epoch says so: worth a question, and no more than that."""
        strangers = sum(1 for known in self._claims if known not in self._validators)
        if sender in self._claims or strangers < STRANGERS_MAX:
            self._claims[sender] = Height(max(height, self._claims.get(sender, GENESIS_HEIGHT)))

    @property
    def claims(self) -> dict[ValidatorId, Height]:
        """Who claims what, ascending by sender."""
        return {sender: self._claims[sender] for sender in sorted(self._claims)}

    def advance(self, low: Height) -> None:
        """Blocks up to `low` are here."""
        self.is_patient = True
        for sender in [sender for sender, height in self._claims.items() if height <= low]:
            del self._claims[sender]
        if self.outstanding is not None and low >= self.outstanding[1]:
            self.outstanding = None

    def stall(self, *, missing: bool) -> None:
        """A retransmission period went by without progress; `missing`: not all blocks asked for have come."""
        self.is_patient = False
        if self.outstanding is not None and missing:
            for sender in self._sources:
                self._claims.pop(sender, None)
            self.outstanding = None

    @property
    def is_behind(self) -> bool:
        """Somebody claims more than is certified here."""
        return bool(self._claims)

    def corroborated(self) -> Height:
        """The highest height that more than F claim to have reached: one of them is honest. 0 if there is none."""
        weight = 0
        for sender in sorted(self._claims, key=lambda sender: (-self._claims[sender], sender)):
            member = self._validators.get(sender)
            weight += 0 if member is None else member.weight
            if weight > self._validators.tolerated_weight:
                return self._claims[sender]
        return GENESIS_HEIGHT

    def request(self, *, low: Height, ordered: Height) -> FetchBlocks | None:
        """What to fetch now. A block or two of delay is normal and gets a retransmission period to resolve itself."""
        if not self._claims:
            return None
        corroborated = self.corroborated()
        if self.outstanding is not None and not low < corroborated < self.outstanding[1]:
            return None  # but what was asked of a single claimant, perhaps a liar, does not hold up the rest
        target = self._epoch.limit(corroborated or max(self._claims.values()))
        is_far = target > ordered and target >= low + 2
        if target <= low or (self.is_patient and not is_far):
            return None
        first, last = Height(low + 1), Height(min(target, low + FETCH_BLOCKS_MAX))
        self.outstanding = (first, last)
        self._sources = tuple(sorted(sender for sender, height in self._claims.items() if height >= last))
        return FetchBlocks(first=first, last=last, sources=self._sources)
