"""All planted bugs, by the part of the promise they break."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug
from tests.planted.driver_bugs import DRIVER, SYNC
from tests.planted.durability_bugs import CHECKPOINTS, DURABILITY
from tests.planted.epoch_bugs import EPOCHS
from tests.planted.recovery_bugs import CATCHING_UP, RECOVERY, RETRANSMISSIONS
from tests.planted.storage_bugs import JOURNAL, STORES
from tests.planted.view_bugs import TIMERS, VIEW_CHANGES
from tests.planted.voting_bugs import EXAMINATION, VOTES

GROUPS: Final[dict[str, tuple[Bug, ...]]] = {
    "votes": VOTES,
    "what is checked of a message": EXAMINATION,
    "durable before visible": DURABILITY,
    "checkpoints and divergence": CHECKPOINTS,
    "view change": VIEW_CHANGES,
    "timers": TIMERS,
    "retransmission": RETRANSMISSIONS,
    "catching up": CATCHING_UP,
    "recovery": RECOVERY,
    "epochs": EPOCHS,
    "driver": DRIVER,
    "sync": SYNC,
    "journal": JOURNAL,
    "stores": STORES,
}
BUGS: Final = tuple(bug for bugs in GROUPS.values() for bug in bugs)
