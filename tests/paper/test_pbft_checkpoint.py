"""Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, section 4.3: garbage collection.

Here every block is a checkpoint, and its proof is the block's certificate.
"""

from __future__ import annotations

import msgspec

from chain.model.block import header_hash
from chain.types import Height
from consensus.effects import ObtainProposal, Store
from consensus.events import Executed
from consensus.messages import Checkpoint, Prepare, PrePrepare
from tests.unit.consensus.members import WINDOW, execute, of, said
from tests.unit.consensus.solo import Solo


def executed() -> tuple[Solo, Checkpoint]:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    header = execute(proposal, solo.chain.genesis)
    [vote] = said(Checkpoint, solo.step(Executed(header=header)))
    return solo, vote


def test_a_checkpoint_is_sent_to_all_when_it_is_produced() -> None:
    """ "When a replica i produces a checkpoint, it multicasts a message <CHECKPOINT, n, d, i> to the other replicas,
    where n is the sequence number of the last request whose execution is reflected in the state and d is the digest of
    the state." """
    solo, vote = executed()
    header = execute(solo.chain.proposal(1, "a"), solo.chain.genesis)
    assert vote == Checkpoint(height=1, digest=header_hash(header))


def test_the_proof_of_a_checkpoint_is_a_quorum_of_equal_votes_by_different_replicas() -> None:
    """ "Each replica collects checkpoint messages in its log until it has 2f+1 of them for sequence number n with the
    same digest d signed by different replicas (including possibly its own such message). These 2f+1 messages are the
    proof of correctness of the checkpoint." """
    solo, vote = executed()
    assert of(Store, solo.hear(0, vote) + solo.hear(0, vote)) == []
    assert of(Store, solo.hear(2, msgspec.structs.replace(vote, digest=bytes(32)))) == []
    [store] = of(Store, solo.hear(3, vote))
    signers = [entry.validator for entry in store.certificate.signatures]
    assert signers == sorted(solo.chain.keys[number].validator_id for number in (0, 1, 3))


def test_a_stable_checkpoint_empties_the_log_up_to_it() -> None:
    """ "A checkpoint with a proof becomes stable and the replica discards all pre-prepare, prepare, and commit messages
    with sequence number less than or equal to n from its log; it also discards all earlier checkpoints and checkpoint
    messages." """
    solo, vote = executed()
    solo.hear(0, vote)
    assert list(solo.replica._ordering.heights) == [1]
    solo.hear(2, vote)
    assert list(solo.replica._ordering.heights) == []
    assert solo.replica._checkpoints._tallies == {}
    assert solo.prepare(solo.chain.proposal(1, "a"), 3) == []
    assert list(solo.replica._ordering.heights) == []


def test_the_checkpoint_advances_the_water_marks() -> None:
    """ "The checkpoint protocol is used to advance the low and high water marks (which limit what messages will be
    accepted). The low-water mark h is equal to the sequence number of the last stable checkpoint. The high water mark
    H = h + k" """
    solo, vote = executed()
    beyond = solo.chain.proposal(WINDOW + 1, "beyond")
    assert of(ObtainProposal, solo.hear(0, PrePrepare(view=0, proposal=beyond))) == []
    solo.hear(0, vote)
    assert of(ObtainProposal, solo.hear(2, vote)) != []
    assert solo.replica.certified_height == Height(1)
    assert said(Prepare, solo.obtain(beyond)) != []
