"""Which proposals may be executed before they are ordered: a hint to the driver, never more than that."""

from __future__ import annotations

from chain.errors import InvariantError
from chain.model.block import Proposal
from chain.types import Digest, Height
from consensus.effects import Effect, Speculate


class Speculation:
    """The proposals named to the driver, without a gap from the first height that is not issued for execution."""

    def __init__(self) -> None:
        self._named: dict[Height, Digest] = {}

    def name(self, proposal: Proposal, digest: Digest, out: list[Effect]) -> None:
        """`proposal` will most likely be ordered. Named once; another digest voids it and all above it, which were to
        run on top of it."""
        height = Height(proposal.height)
        if self._named.get(height) == digest:
            return
        self._void(height)
        self._named[height] = digest
        out.append(Speculate(proposal=proposal))

    def issue(self, height: Height, digest: Digest) -> None:
        """`height`, the lowest one named if any is, is issued for execution."""
        if self._named.get(height) != digest:
            self._void(height)
        self._named.pop(height, None)

    def _void(self, height: Height) -> None:
        for named in [named for named in self._named if named >= height]:
            del self._named[named]

    def validate_state(self, issued: Height) -> None:
        """Raises InvariantError if the heights named do not follow each other from the one after `issued`."""
        if sorted(self._named) != list(range(issued + 1, issued + 1 + len(self._named))):
            raise InvariantError(f"heights {sorted(self._named)} named ahead of execution, {issued} issued")
