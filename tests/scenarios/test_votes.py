"""Failures that other chains had with votes and certificates. Each test is named after the failure it stops."""

from __future__ import annotations

import msgspec
import pytest

from chain.codec import decode
from chain.errors import DecodeError, PeerFault
from chain.model.block import Certificate, header_hash, proposal_digest
from chain.types import Height
from consensus import Phase, decode_signed, encode_signed, verify_certificate
from consensus.effects import Broadcast, Execute, ObtainProposal, ReportFault, Store
from consensus.events import Executed, MessageReceived, Started, Timer
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    MessageType,
    Prepare,
    PrePrepare,
    Signed,
    Verified,
    ViewChange,
)
from tests.unit.consensus.members import CONFIG, START, WINDOW, Chain, evidence_of, execute, of, said, verify_signature
from tests.unit.consensus.network import Network
from tests.unit.consensus.solo import Solo

DIGEST = bytes(range(32))


def check(chain: Chain, certificate: Certificate, kind: MessageType = MessageType.CHECKPOINT) -> None:
    verify_certificate(
        certificate, validators=chain.validators, chain_id=chain.id, verify_signature=verify_signature, kind=kind
    )


def test_the_quorum_counts_signatures_instead_of_distinct_signers() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.propose(proposal)
    solo.prepare(proposal, *[3] * 10)
    assert solo.replica.phase(Height(1)) is Phase.PROPOSED
    good = solo.chain.certificate(MessageType.CHECKPOINT, height=1, digest=DIGEST, signers=(0, 1, 2))
    repeated = msgspec.structs.replace(good, signatures=good.signatures[:1] * 3)
    with pytest.raises(PeerFault, match="distinct"):
        check(solo.chain, repeated)


def test_an_empty_block_is_accepted_in_sync_without_any_signature_check() -> None:
    chain = Chain()
    header = execute(chain.proposal(1), chain.genesis)
    for signers in ((), (0,), (0, 1)):
        empty = chain.certificate(MessageType.CHECKPOINT, height=1, digest=header_hash(header), signers=signers)
        with pytest.raises(PeerFault, match="less than a quorum"):
            check(chain, empty)
    good = chain.certificate(MessageType.CHECKPOINT, height=1, digest=header_hash(header), signers=(0, 1, 2))
    broken = msgspec.structs.replace(good.signatures[0], signature=bytes(64))
    with pytest.raises(PeerFault, match="bad_signature"):
        check(chain, msgspec.structs.replace(good, signatures=(broken, *good.signatures[1:])))
    check(chain, good)


def test_a_prepare_is_replayed_as_a_commit() -> None:
    chain = Chain()
    vote = chain.sign(2, Prepare(view=0, height=1, digest=DIGEST))
    with pytest.raises(PeerFault, match="bad_signature"):
        chain.verify(
            Signed(sender=vote.sender, message=Commit(view=0, height=1, digest=DIGEST), signature=vote.signature)
        )
    prepares = chain.certificate(MessageType.PREPARE, height=1, digest=DIGEST, signers=(0, 1, 2))
    with pytest.raises(PeerFault, match="bad_signature"):
        check(chain, msgspec.structs.replace(prepares, kind=int(MessageType.COMMIT)), MessageType.COMMIT)


def test_a_vote_is_replayed_on_another_chain() -> None:
    chain, other = Chain(), Chain(name="other")
    vote = other.sign(2, Commit(view=0, height=1, digest=DIGEST))
    assert vote.sender == chain.keys[2].validator_id
    with pytest.raises(PeerFault, match="bad_signature"):
        chain.verify(vote)


def test_a_certificate_of_an_older_view_is_replayed_as_a_newer_one() -> None:
    chain = Chain()
    old = chain.certificate(MessageType.PREPARE, view=1, height=1, digest=DIGEST, signers=(0, 1, 2))
    with pytest.raises(PeerFault, match="bad_signature"):
        chain.verify(chain.view_change(3, 9, prepared=[msgspec.structs.replace(old, view=8)]))


def test_votes_of_an_older_view_complete_a_quorum_in_the_new_one() -> None:
    solo = Solo(number=3)
    chain = solo.chain
    proposal = chain.proposal(1, "a")
    old = [chain.received(number, Prepare(view=0, height=1, digest=proposal_digest(proposal))) for number in (0, 2)]
    prepared = chain.certificate(
        MessageType.PREPARE, height=1, digest=proposal_digest(proposal), signers=(0, 1, 2)
    )
    solo.change_view(1, *[chain.view_change(number, 1, prepared=[prepared]) for number in (0, 1, 2)])
    solo.obtain(proposal)
    assert [effect for event in old for effect in said(Commit, solo.step(event))] == []
    assert said(Commit, solo.prepare(proposal, 0, 2, view=1)) != []


def test_a_vote_for_a_height_with_no_pre_prepare_is_dereferenced() -> None:
    solo = Solo()
    for height in range(1, WINDOW + 1):
        for kind in (Prepare, Commit):
            for number in (0, 2, 3):
                solo.hear(number, kind(view=0, height=height, digest=DIGEST))
    assert solo.replica.diverged is None
    assert said(Prepare, solo.propose(solo.chain.proposal(1, "a"))) != []


def test_a_message_from_a_stranger_reaches_the_replica() -> None:
    chain, larger = Chain(), Chain(5)
    stranger = larger.sign(4, Prepare(view=0, height=1, digest=DIGEST))
    with pytest.raises(PeerFault, match="unknown_sender"):
        chain.verify(stranger)
    solo = Solo(chain)
    forced = Verified(sender=stranger.sender, message=stranger.message, signature=stranger.signature)
    assert solo.step(MessageReceived(message=forced)) == []
    change = larger.sign(4, ViewChange(view=9, stable=None, prepared=()))
    solo.step(MessageReceived(message=Verified(sender=change.sender, message=change.message, signature=b"")))
    assert solo.replica._view_changes.views() == {}


def test_a_request_before_start_up_is_complete() -> None:
    chain = Chain()
    replica = chain.replica(1)
    assert replica.step(chain.pre_prepare(chain.proposal(1, "a")), START) == []
    assert [type(effect) for effect in replica.step(Started(), START)] == [Broadcast]


def test_view_2_to_the_63_minus_1_overflows_and_its_leader_leads_for_ever() -> None:
    chain = Chain()
    view = 2**63 - 1
    messages: list[Message] = [
        Prepare(view=view, height=1, digest=DIGEST),
        PrePrepare(view=view, proposal=chain.proposal(1, "a", leader=view % 4)),
        chain.view_change(3, view).message,
        chain.new_view(view, [chain.view_change(number, view) for number in (0, 1, 2)]).message,
    ]
    for message in messages:
        with pytest.raises(PeerFault, match="bad_view"):
            chain.verify(chain.sign(3, message))


def test_an_absent_or_misshapen_payload_crashes_the_leader() -> None:
    chain = Chain()
    data = encode_signed(chain.sign(1, Prepare(view=0, height=1, digest=DIGEST)))
    for bad in (b"", b"\xc0", b"\x94\x02\xc0\xc0\xc0", data.replace(b"\xc4\x20", b"\xc4\x1f"), data[:-1]):
        with pytest.raises(DecodeError):
            decode_signed(bad)


def test_an_equivocating_leader_sends_two_proposals_to_two_halves() -> None:
    network = Network()
    chain = network.chain
    network.nodes[0].is_down = True  # the leader is the adversary: it says what it likes
    proposals = [chain.proposal(1, "left"), chain.proposal(1, "right")]
    for proposal in proposals:
        for node in network.nodes:
            node.bodies[proposal_digest(proposal)] = proposal
    for node, proposal in zip(network.nodes[1:], (proposals[0], proposals[1], proposals[1]), strict=True):
        node.step(chain.pre_prepare(proposal))
        for half in proposals:  # and it votes for both
            node.step(chain.received(0, Prepare(view=0, height=1, digest=proposal_digest(half))))
    network.run()
    network.elapse(20_000)
    network.check_agreement()
    assert all(node.replica.view >= 1 for node in network.up())
    network.submit("afterwards")
    network.elapse(20_000)
    network.check_agreement()
    assert len({len(node.blocks) for node in network.up()}) == 1
    assert len(network.nodes[1].blocks) >= 1


def test_equivocation_is_reported_with_both_messages_as_evidence() -> None:
    solo = Solo()
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(1, "b")
    solo.propose(first)
    effects = solo.hear(0, PrePrepare(view=0, proposal=second))
    assert evidence_of(effects) == ["equivocation"]
    [fault] = of(ReportFault, effects)
    assert fault.peer == solo.chain.keys[0].validator_id
    told = [solo.chain.verify(decode_signed(data)).message for data in decode(tuple[bytes, ...], fault.evidence)]
    assert told == [PrePrepare(view=0, proposal=first), PrePrepare(view=0, proposal=second)]
    solo.hear(3, Commit(view=0, height=1, digest=DIGEST))
    assert evidence_of(solo.hear(3, Commit(view=0, height=1, digest=bytes(32)))) == ["equivocation"]


def test_a_proposal_from_the_far_future_is_voted_for() -> None:
    solo = Solo()
    early = START + CONFIG.timestamp_drift_ms_max
    assert said(Prepare, solo.propose(solo.chain.proposal(1, "a", timestamp_ms=early))) != []
    late = solo.chain.proposal(2, "b", timestamp_ms=early + 1)
    assert of(ObtainProposal, solo.hear(0, PrePrepare(view=0, proposal=late))) == []
    solo.fire(Timer.TIMESTAMP)
    assert said(Prepare, solo.obtain(late)) != []


def test_a_checkpoint_vote_of_one_height_certifies_another() -> None:
    chain = Chain()
    good = chain.certificate(MessageType.CHECKPOINT, height=1, digest=DIGEST, signers=(0, 1, 2))
    with pytest.raises(PeerFault, match="bad_signature"):
        check(chain, msgspec.structs.replace(good, height=2))


def test_a_commit_quorum_for_a_proposal_that_was_hidden_from_this_node() -> None:
    """The leader shows its proposal to a quorum without us: we learn it from those who voted."""
    network = Network()
    network.filter = lambda sender, receiver, message: not (
        receiver.number == 3 and isinstance(message, PrePrepare | Prepare)
    )
    network.submit("a", "b")
    assert network.heights() == [2, 2, 2, 2]
    network.check_agreement()


def test_no_block_is_stored_on_less_than_a_quorum_of_headers() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    header = execute(proposal, solo.chain.genesis)
    vote = Checkpoint(height=1, digest=header_hash(header))
    effects = solo.step(Executed(header=header))
    for _ in range(5):
        effects += solo.hear(0, vote)
    assert of(Store, effects) == []
    assert of(Store, solo.hear(3, vote)) != []


def test_a_node_that_executes_wrongly_stops_loudly_and_does_not_stop_the_others() -> None:
    network = Network()
    network.nodes[3].corrupt = True
    network.submit("a", "b", "c")
    assert network.heights() == [3, 3, 3, 0]
    stopped = network.nodes[3].replica.diverged
    assert stopped is not None
    assert (stopped.height, stopped.reason) == (1, "header_differs")
    assert of(Execute, network.nodes[3].trace) != []
    network.check_agreement()


def test_two_nodes_of_four_that_execute_wrongly_halt_the_chain_loudly() -> None:
    network = Network()
    for number in (2, 3):
        network.nodes[number].corrupt = True
    network.submit("a")
    assert network.heights() == [0, 0, 0, 0]
    for node in network.nodes:
        stopped = node.replica.diverged
        assert stopped is not None
        assert (stopped.height, stopped.certified, stopped.reason) == (1, None, "no_quorum_can_form")


def test_a_second_process_votes_with_this_validators_key() -> None:
    """Nothing crashes, nothing of it is counted, and the node says that its key is in use elsewhere."""
    solo = Solo()
    chain, own = solo.chain, solo.number
    proposal, other = chain.proposal(1, "a"), chain.proposal(1, "b")
    solo.propose(proposal)
    solo.prepare(proposal, 0)
    elsewhere: list[Message] = [
        Prepare(view=0, height=1, digest=proposal_digest(other)),
        Prepare(view=0, height=2, digest=DIGEST),
        Prepare(view=1, height=1, digest=proposal_digest(proposal)),
        Commit(view=0, height=1, digest=proposal_digest(proposal)),
        Checkpoint(height=1, digest=DIGEST),
        ViewChange(view=1, stable=None, prepared=()),
        PrePrepare(view=1, proposal=chain.proposal(1, "c", leader=own)),
    ]
    phase = solo.replica.phase(Height(1))
    for message in elsewhere:
        effects = solo.hear(own, message)
        assert [type(effect) for effect in effects] == [ReportFault]
        assert evidence_of(effects) == ["own_key_elsewhere"]
        assert of(ReportFault, effects)[0].peer == solo.replica.id
    assert solo.replica.phase(Height(1)) is phase
    assert not solo.replica.is_changing


def test_a_node_that_hears_its_own_votes_again_suspects_nobody() -> None:
    solo = Solo()
    chain, own = solo.chain, solo.number
    first = chain.proposal(1, "a")
    header = solo.finish(first, chain.genesis)
    second = chain.proposal(2, "b")
    solo.order(second)
    echoes: list[Message] = [
        Prepare(view=0, height=1, digest=DIGEST),  # below what is certified here nothing is remembered
        Prepare(view=0, height=2, digest=proposal_digest(second)),
        Commit(view=0, height=2, digest=proposal_digest(second)),
        Checkpoint(height=1, digest=header_hash(header)),
    ]
    solo.step(Executed(header=execute(second, header)))
    echoes.append(Checkpoint(height=2, digest=header_hash(execute(second, header))))
    again = solo.restart(last=(header, None))
    for life in (solo, again):
        for message in echoes[:4]:
            assert life.hear(own, message) == []
    assert solo.hear(own, echoes[4]) == []
    solo.fire(Timer.VIEW)
    assert solo.hear(own, ViewChange(view=1, stable=None, prepared=())) == []
