"""An epoch: a run of heights with one validator set, and what is known here of where it begins and ends.

A block h that schedules another set makes h + window the last height of its epoch, the *boundary*. Nobody votes above
it before it is stored, and no replica votes above `executed + window`, so what anybody votes for belongs to one known
set. What others say about higher heights may belong to the next epoch: it is kept, or noted; nothing follows from it.
After a restart the same holds of heights that the journal speaks of, until what lies below them is executed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chain.errors import InvariantError
from chain.model.block import Certificate
from chain.model.validators import ValidatorSet
from chain.types import GENESIS_HEIGHT, Height
from consensus.messages import ViewChange

_NO_END: Final = Height(2**64)  # above every height that a message may name


class Epoch:
    """Heights base < h <= boundary belong to `validators`. With no `window` the set never changes."""

    __slots__ = ("_certain", "_window", "base", "boundary", "previous", "validators")

    def __init__(
        self,
        validators: ValidatorSet,
        *,
        base: Height = GENESIS_HEIGHT,
        previous: ValidatorSet | None = None,
        boundary: Height | None = None,
        window: int | None = None,
        executed: Height = GENESIS_HEIGHT,
    ) -> None:
        """`previous` certified the block at `base`; `executed` is the last height executed here."""
        self.validators = validators
        self.base = base
        self.previous = previous
        self.boundary = boundary
        self._window = window
        self._certain = _NO_END if window is None else Height(executed + window)

    @property
    def is_fixed(self) -> bool:
        """No other set will ever follow."""
        return self._window is None

    @property
    def end(self) -> Height:
        """The last height that is known to belong to it: nothing may follow from what is said of higher ones."""
        return self._certain if self.boundary is None else self.boundary

    def limit(self, height: int) -> Height:
        """`height`, or the boundary if that is known and lower."""
        return Height(height if self.boundary is None else min(height, self.boundary))

    def holds(self, height: int) -> bool:
        """`height` is known to belong to it."""
        return self.base < height <= self.end

    def is_over(self, low: Height) -> bool:
        """Its last block is certified here."""
        return self.boundary is not None and low >= self.boundary

    def is_ending(self, low: Height) -> bool:
        """The boundary is known and not reached: it must be, whether there are transactions or not."""
        return self.boundary is not None and low < self.boundary

    def on_executed(self, height: Height) -> None:
        """`height` is executed here: what it and all below it scheduled is known."""
        if self._window is not None:
            self._certain = Height(max(self._certain, height + self._window))

    def close(self, boundary: Height) -> None:
        """A block executed here schedules another set from `boundary` + 1 on.

        Raises:
            InvariantError: one is scheduled already; there is never more than one.
        """
        if self.boundary is not None:
            raise InvariantError(f"an epoch that ends at {self.boundary} is to end at {boundary}")
        self.boundary = boundary


def epoch_height(stable: Certificate | None) -> Height:
    """A view-change with this stable certificate belongs to the epoch of the height above it."""
    return Height((GENESIS_HEIGHT if stable is None else stable.height) + 1)


def belongs(changes: Sequence[ViewChange], epoch: Epoch) -> bool:
    """All of `changes` are known to belong to `epoch`."""
    return all(epoch.holds(epoch_height(change.stable)) for change in changes)
