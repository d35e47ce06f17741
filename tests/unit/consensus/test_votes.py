"""Counting votes."""

from __future__ import annotations

from chain.types import Digest, Height, View
from consensus import verify_certificate
from consensus.messages import MessageType, Prepare, Verified
from consensus.votes import Tally
from tests.unit.consensus.members import Chain, verify_signature

CHAIN = Chain()
A, B, C = Digest(b"a" * 32), Digest(b"b" * 32), Digest(b"c" * 32)


def vote(number: int, digest: Digest, chain: Chain = CHAIN) -> Verified[Prepare]:
    return chain.verified(number, Prepare(view=0, height=1, digest=digest))


def test_distinct_signers_are_counted_not_votes() -> None:
    tally = Tally(CHAIN.validators)
    for _ in range(5):
        assert tally.add(vote(0, A)) is None
    assert len(tally) == 1
    assert not tally.has_quorum(A)
    tally.add(vote(1, A))
    assert tally.quorum() is None
    tally.add(vote(2, A))
    assert tally.has_quorum(A)
    assert tally.quorum() == A


def test_the_first_vote_of_a_member_counts_and_a_contradiction_returns_it() -> None:
    tally = Tally(CHAIN.validators)
    first = vote(0, A)
    tally.add(first)
    assert tally.add(vote(0, B)) is first
    assert tally.signers(B) == ()
    assert tally.signers(A) == (first.sender,)


def test_a_stranger_is_not_counted() -> None:
    tally = Tally(CHAIN.validators)
    tally.add(vote(4, A, Chain(5)))
    assert len(tally) == 0


def test_a_certificate_is_made_of_equal_votes_ascending_by_signer() -> None:
    chain = Chain(7)
    tally = Tally(chain.validators)
    for number in (6, 2, 0, 5, 1):
        tally.add(vote(number, A, chain))
    tally.add(vote(3, B, chain))
    assert tally.has_quorum(A)
    certificate = tally.certificate(kind=MessageType.PREPARE, view=View(0), height=Height(1), digest=A)
    signers = [entry.validator for entry in certificate.signatures]
    assert signers == sorted(chain.keys[number].validator_id for number in (0, 1, 2, 5, 6))
    verify_certificate(
        certificate,
        validators=chain.validators,
        chain_id=chain.id,
        verify_signature=verify_signature,
        kind=MessageType.PREPARE,
    )


def test_more_than_f_contain_an_honest_one() -> None:
    tally = Tally(CHAIN.validators)
    tally.add(vote(0, A))
    assert not tally.has_honest()
    tally.add(vote(1, B))
    assert tally.has_honest()


def test_it_is_known_when_no_quorum_can_agree_any_more() -> None:
    tally = Tally(CHAIN.validators)
    tally.add(vote(0, A))
    tally.add(vote(1, B))
    assert tally.can_agree()  # two more for one of them
    tally.add(vote(2, C))
    assert not tally.can_agree()
