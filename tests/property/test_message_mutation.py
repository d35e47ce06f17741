"""Every field of every consensus message bent in every way: what is refused where, and what reaching the core does.

The messages and their parts are found by reflection (`tests.property.mutation`). A field that is added and can be bent
into something that reaches the core is missing in `REACHES_THE_CORE`, and the test says so.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, cast

import pytest

from chain.codec import encode
from chain.errors import DecodeError, PeerFault
from chain.model.block import Certificate, header_hash, proposal_digest
from chain.sim.bounds import check_bounds
from chain.types import MESSAGE_BYTES_MAX, Height, ValidatorId
from consensus import Phase, Succession, decode_signed, encode_signed
from consensus.effects import ReportFault, Store
from consensus.events import Executed
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Signed,
    SignedViewChange,
    Status,
    ViewChange,
)
from consensus.wire import _CLASSES
from tests.property.mutation import Mutant, Others, bent_bytes, mutants
from tests.unit.consensus.members import WINDOW, Chain, execute, of
from tests.unit.consensus.network import Network, Node
from tests.unit.consensus.solo import Solo

CHAIN: Final = Chain()
LIAR: Final = 3  # leads view 3


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


STABLE: Final = CHAIN.certificate(MessageType.CHECKPOINT, height=2, digest=digest("header"), signers=(0, 1, 2))
PREPARED: Final = [
    CHAIN.certificate(MessageType.PREPARE, height=height, digest=digest(str(height)), signers=(0, 1, 2))
    for height in (3, 4)
]
CHANGES: Final = [CHAIN.view_change(number, 3, stable=STABLE, prepared=PREPARED) for number in (0, 1, LIAR)]
SAMPLES: Final[Mapping[type[Message], Message]] = {
    PrePrepare: PrePrepare(view=3, proposal=CHAIN.proposal(3, "a", "b", leader=LIAR)),
    Prepare: Prepare(view=1, height=3, digest=digest("3")),
    Commit: Commit(view=1, height=3, digest=digest("3")),
    Checkpoint: Checkpoint(height=2, digest=digest("header")),
    ViewChange: CHANGES[-1].message,
    NewView: CHAIN.new_view(3, CHANGES).message,
    Status: Status(view=1, changing=False, certified=2, ordered=3),
}
OTHERS: Final = Others(
    identities=[key.validator_id for key in CHAIN.keys],
    digests=[digest("stale")],
    signatures=[PREPARED[0].signatures[0].signature],
    records={Certificate: STABLE},
)

# What a member may sign and have heard by the core, because no single message can show that it is a lie. Everything
# else is refused before: by the decoder or by the examination, whoever signs it.
NEAR: Final = {"one less", "one more"}
ANOTHER: Final = {"zeroes", "flipped", "reversed", "stale"}  # a digest that may be one
REACHES_THE_CORE: Final[Mapping[tuple[type[Message], str], set[str]]] = {
    (PrePrepare, "proposal.height"): {*NEAR, "largest"},
    (PrePrepare, "proposal.timestamp_ms"): {*NEAR, "zero", "largest"},
    (PrePrepare, "proposal.hashes"): {"empty", "zeroes", "flipped", "reversed", "of something else"},
    **{(kind, "view"): {*NEAR, "zero"} for kind in (Prepare, Commit)},
    **{(kind, "height"): {*NEAR, "largest"} for kind in (Prepare, Commit, Checkpoint)},
    **{(kind, "digest"): ANOTHER for kind in (Prepare, Commit, Checkpoint)},
    (ViewChange, "view"): NEAR,
    (ViewChange, "stable"): {"absent"},
    (ViewChange, "prepared"): {"no entries", "first dropped", "last dropped"},
    (Status, "view"): {*NEAR, "zero"},
    (Status, "changing"): {"negated"},
    (Status, "certified"): {*NEAR, "zero"},
    (Status, "ordered"): {*NEAR, "largest"},
}


def stage(signed: Signed[Message]) -> str:
    """Where it is refused, or "core"."""
    try:
        again = decode_signed(encode_signed(signed))
    except DecodeError:
        return "decode"
    try:
        CHAIN.verify(again)
    except PeerFault as fault:
        return str(fault).split(":")[0]
    return "core"


def signed_by_liar(message: Message) -> Signed[Message]:
    return CHAIN.sign(LIAR, message)


def test_there_is_a_sample_of_every_message_and_it_holds() -> None:
    assert set(SAMPLES) == set(_CLASSES.values())
    for message in SAMPLES.values():
        assert stage(signed_by_liar(message)) == "core"


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_what_is_bent_without_the_senders_key_never_reaches_the_core(kind: type[Message]) -> None:
    genuine = signed_by_liar(SAMPLES[kind])
    count = 0
    for mutant in mutants(genuine.message, OTHERS):
        forged = Signed(sender=genuine.sender, message=mutant.value, signature=genuine.signature)
        assert stage(forged) != "core", mutant
        count += 1
    assert count >= 15
    for sender in (key.validator_id for key in CHAIN.keys):
        if sender != genuine.sender:
            assert stage(Signed(sender=sender, message=genuine.message, signature=genuine.signature)) != "core"


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_what_a_member_may_say_wrongly_is_exactly_what_one_message_cannot_disprove(kind: type[Message]) -> None:
    reached: dict[tuple[type[Message], str], set[str]] = defaultdict(set)
    for mutant in mutants(SAMPLES[kind], OTHERS):
        if stage(signed_by_liar(mutant.value)) == "core":
            reached[kind, mutant.path].add(mutant.kind)
    assert dict(reached) == {place: kinds for place, kinds in REACHES_THE_CORE.items() if place[0] is kind}


def resigned(message: NewView) -> NewView:
    """Its own view-change inside signed anew by the liar, so that only the contents are wrong."""
    own = CHAIN.keys[LIAR].validator_id
    return NewView(
        view=message.view,
        view_changes=tuple(
            SignedViewChange(sender=own, message=change.message, signature=CHAIN.sign(LIAR, change.message).signature)
            if change.sender == own
            else change
            for change in message.view_changes
        ),
    )


def test_in_a_new_view_the_leader_may_bend_its_own_view_change_and_only_as_it_could_have_sent_it() -> None:
    reached: dict[str, set[str]] = defaultdict(set)
    for mutant in mutants(SAMPLES[NewView], OTHERS):
        if stage(signed_by_liar(resigned(mutant.value))) == "core" and resigned(mutant.value) != SAMPLES[NewView]:
            reached[mutant.path].add(mutant.kind)
    assert dict(reached) == {
        "view_changes[].message.stable": {"absent"},
        "view_changes[].message.prepared": {"no entries", "first dropped", "last dropped"},
    }


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_what_no_encoder_of_ours_writes_is_refused_at_decoding(kind: type[Message]) -> None:
    genuine = signed_by_liar(SAMPLES[kind])
    number = next(number for number, known in _CLASSES.items() if known is kind)
    frames = [
        encode((number, genuine.sender, mutant.value, genuine.signature)) for mutant in bent_bytes(genuine.message)
    ]
    frames += [mutant.value for mutant in bent_bytes((number, genuine.sender, b"", genuine.signature))]
    frames += [encode((other, genuine.sender, encode(genuine.message), genuine.signature)) for other in (0, -1, 8, 99)]
    frames.append(encode((number, genuine.sender, bytes(MESSAGE_BYTES_MAX), genuine.signature)))
    assert len(frames) > 100
    for frame in frames:
        with pytest.raises(DecodeError):
            decode_signed(frame)


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_one_flipped_bit_anywhere_is_noticed(kind: type[Message]) -> None:
    frame = encode_signed(signed_by_liar(SAMPLES[kind]))
    for at in range(0, len(frame), max(1, len(frame) // 300)):
        bent = frame[:at] + bytes((frame[at] ^ (1 << at % 8),)) + frame[at + 1 :]
        try:
            signed = decode_signed(bent)
        except DecodeError:
            continue
        assert stage(signed) != "core", at


# --- in the middle of a run ---


class Hostile(Network):
    """One member runs the honest code and says, beside or instead of each message, all that it may bend it into."""

    def __init__(self, liar: int, *, order: str) -> None:
        """`order`: the bent ones come "before" or "after" the genuine one, or "instead" of it."""
        self.liar = liar
        self.order = order
        self.is_lying = False
        self.lies = 0
        self._bent: dict[bytes, list[bytes]] = {}
        super().__init__()

    def send(self, sender: Node, receiver: Node, data: bytes) -> None:
        frames = [data]
        if self.is_lying and sender.number == self.liar:
            bent = self._bent_frames(data)
            self.lies += len(bent)
            frames = {"before": [*bent, data], "after": [data, *bent], "instead": bent}[self.order]
        for frame in frames:
            super().send(sender, receiver, frame)

    def _bent_frames(self, data: bytes) -> list[bytes]:
        """Only what gets through: the rest has its test above."""
        if data not in self._bent:
            signed = decode_signed(data)
            own = self.chain.keys[self.liar].validator_id
            others = Others(
                identities=[key.validator_id for key in self.chain.keys],
                digests=[block[1].proposal_digest for block in self.nodes[self.liar].blocks[-1:]],
            )
            self._bent[data] = [
                encode_signed(again)
                for mutant in mutants(signed.message, others)
                if signed.sender == own and (type(signed.message), mutant.path) in REACHES_THE_CORE
                if (again := self._verified(mutant)) is not None
            ]
        return self._bent[data]

    def _verified(self, mutant: Mutant) -> Signed[Message] | None:
        again = self.chain.sign(self.liar, mutant.value)
        try:
            self.chain.verify(again)
        except PeerFault:
            return None
        return again

    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node.number != self.liar]


@pytest.mark.parametrize("order", ["before", "after", "instead"])
@pytest.mark.parametrize("liar", [0, 3])
def test_a_member_that_bends_all_it_says_breaks_no_promise(liar: int, order: str) -> None:
    """Agreement, bounds, no exception; and the three honest ones still make progress."""
    network = Hostile(liar, order=order)
    network.submit("a", "b")
    network.is_lying = True
    network.submit("c", "d", "e")
    network.elapse(1_000)
    leader = network.honest()[0].replica.leader
    network.filter = lambda sender, receiver, message: sender.id != leader  # so that view-changes are bent as well
    network.submit("f", overdue=True)
    network.elapse(9_000)
    network.filter = lambda sender, receiver, message: True
    network.submit("g", overdue=True)
    network.elapse(60_000)
    network.check_agreement()
    assert network.lies > 200
    wanted = {digest(text) for text in "abcdefg"}
    for node in network.honest():
        stored = [tx for proposal, _, _ in node.blocks for tx in proposal.transaction_hashes()]
        assert wanted <= set(stored), (node.number, len(node.blocks), node.replica.view)
        core = cast("Succession", node.replica)  # or a part of it
        check_bounds(core, window=WINDOW, nodes=4, transactions_max=16, restored_heights=0)
        assert node.replica.diverged is None
        accused = {effect.peer for effect in of(ReportFault, node.trace)}
        assert accused <= {ValidatorId(network.nodes[liar].id)}


def test_what_one_member_bends_completes_no_quorum() -> None:
    """Two genuine votes of three needed, and every lie of a third member: nothing is prepared, ordered or certified."""
    solo = Solo(CHAIN)
    proposal = CHAIN.proposal(1, "a")
    value = proposal_digest(proposal)
    solo.propose(proposal)
    solo.prepare(proposal, 0)
    lies = {kind: [mutant.value for mutant in mutants(sample, OTHERS)] for kind, sample in {
        Prepare: Prepare(view=0, height=1, digest=value),
        Commit: Commit(view=0, height=1, digest=value),
        ViewChange: ViewChange(view=1, stable=None, prepared=()),
    }.items()}  # fmt: skip

    def tell(kind: type[Message]) -> None:
        for message in lies[kind]:
            if stage(signed_by_liar(message)) == "core":
                solo.hear(LIAR, message)

    tell(Prepare)
    assert solo.replica.phase(Height(1)) is Phase.PROPOSED
    tell(Commit)
    assert solo.replica.phase(Height(1)) is Phase.PROPOSED
    solo.prepare(proposal, 2)
    solo.commit(proposal, 0)
    tell(Commit)
    assert solo.replica.phase(Height(1)) is Phase.PREPARED
    tell(ViewChange)
    assert not solo.replica.is_changing
    solo.commit(proposal, 2)
    assert solo.replica.phase(Height(1)) is Phase.ORDERED
    header = execute(proposal, CHAIN.genesis)
    solo.step(Executed(header=header))
    solo.certify(header, 0)
    for mutant in mutants(Checkpoint(height=1, digest=header_hash(header)), OTHERS):
        if stage(signed_by_liar(mutant.value)) == "core":
            assert of(Store, solo.hear(LIAR, mutant.value)) == []
    assert len(of(Store, solo.certify(header, 2))) == 1
    assert solo.replica.diverged is None
