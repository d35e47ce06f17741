"""Messages that cannot be judged yet, kept until they can: of each sender a bounded number."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Final, TypeAlias

from chain.errors import InvariantError
from chain.types import Height, ValidatorId, View
from consensus.messages import Commit, Prepare, PrePrepare, Verified

OrderingMessage: TypeAlias = PrePrepare | Prepare | Commit

_RANK: Final[dict[type[OrderingMessage], int]] = {PrePrepare: 0, Prepare: 1, Commit: 2}


class Kept:
    """Of each sender, what it says in the highest view it speaks in: one message a type and height."""

    def __init__(self) -> None:
        self._of: dict[ValidatorId, tuple[View, dict[tuple[Height, int], Verified[OrderingMessage]]]] = {}

    def add(self, received: Verified[OrderingMessage], view: View, height: Height) -> None:
        known_view, known = self._of.get(received.sender, (View(-1), {}))
        if view > known_view:
            known_view, known = view, {}
            self._of[received.sender] = (view, known)
        if view == known_view:
            known.setdefault((height, _RANK[type(received.message)]), received)

    def speakers_above(self, view: View) -> Iterator[ValidatorId]:
        """Who speaks in a view above `view`."""
        return (sender for sender, (at, _) in self._of.items() if at > view)

    def take_view(self, view: View) -> Iterator[Verified[OrderingMessage]]:
        """What was said in `view`, sender by sender; what was said in lower views is dropped."""
        for sender in sorted(self._of):
            at, messages = self._of[sender]
            if at > view:
                continue
            del self._of[sender]
            if at == view:
                for key in sorted(messages):
                    yield messages[key]

    def take_up_to(self, height: Height) -> list[Verified[OrderingMessage]]:
        """What was said of heights up to `height`, sender by sender."""
        taken: list[Verified[OrderingMessage]] = []
        for sender in sorted(self._of):
            _, messages = self._of[sender]
            for key in sorted(key for key in messages if key[0] <= height):
                taken.append(messages.pop(key))
            if not messages:
                del self._of[sender]
        return taken

    def forget_up_to(self, height: Height) -> None:
        self._forget(lambda at: at <= height)

    def forget_above(self, height: Height) -> None:
        self._forget(lambda at: at > height)

    def _forget(self, unwanted: Callable[[Height], bool]) -> None:
        for _, messages in self._of.values():
            for key in [key for key in messages if unwanted(key[0])]:
                del messages[key]

    def validate_state(self, senders: Container[ValidatorId], count_max: int) -> None:
        """Raises InvariantError if a stranger's message is kept, or more than `count_max` of one sender."""
        for sender, (_, messages) in self._of.items():
            if sender not in senders or len(messages) > count_max:
                raise InvariantError(f"{len(messages)} messages kept of one sender")
