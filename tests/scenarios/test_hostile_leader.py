"""Leaders that lie by what they leave out: bodies, transactions, everything. Each test is named after the failure."""

from __future__ import annotations

import hashlib

import pytest

from chain.model.block import Proposal, proposal_digest
from chain.types import Digest
from consensus.effects import Effect
from consensus.events import Event, Started, TransactionsWaiting
from consensus.messages import Checkpoint, Commit, Message, Prepare, PrePrepare
from consensus.pace import OVERDUE_PATIENCE
from tests.unit.consensus.members import CONFIG
from tests.unit.consensus.network import Network, Node

TIME_OUT = CONFIG.view_timeout_ms


def hashed(text: str) -> Digest:
    return Digest(hashlib.sha256(text.encode()).digest())


def stored(node: Node) -> set[Digest]:
    return {tx for proposal, _, _ in node.blocks for tx in proposal.transaction_hashes()}


class Withholding(Network):
    """The first leader gives its bodies to nobody but `trusted`."""

    def __init__(self, *trusted: int) -> None:
        self.trusted = {0, *trusted}
        super().__init__()

    def is_linked(self, one: Node, other: Node) -> bool:
        return super().is_linked(one, other) and (other.number != 0 or one.number in self.trusted)


@pytest.mark.parametrize("trusted", [(), (1,)])
def test_a_leader_withholds_the_bodies_from_so_many_that_no_quorum_can_vote(trusted: tuple[int, ...]) -> None:
    network = Withholding(*trusted)
    network.submit("a", "b", overdue=True)
    assert network.heights() == [0, 0, 0, 0]
    network.elapse(4 * TIME_OUT)
    assert all(node.replica.view >= 1 for node in network.nodes[1:])
    for node in network.nodes[1:]:
        assert {hashed("a"), hashed("b")} <= stored(node)
    network.check_agreement()


@pytest.mark.parametrize("victim", [1, 2, 3])
def test_a_leader_withholds_the_bodies_from_one_and_that_one_falls_behind(victim: int) -> None:
    """It gets them from those who voted for them; the view need not change."""
    network = Withholding(*{1, 2, 3} - {victim})
    network.submit("a", "b")
    network.elapse(2 * TIME_OUT)
    assert network.heights() == [2, 2, 2, 2]
    assert [node.replica.view for node in network.nodes] == [0, 0, 0, 0]
    network.check_agreement()


def test_a_leader_shows_its_proposal_to_all_and_votes_to_none() -> None:
    """Its own vote is one that a quorum can do without."""
    network = Network()
    network.filter = lambda sender, receiver, message: sender.number != 0 or isinstance(message, PrePrepare)
    network.submit("a")
    assert network.heights()[1:] == [1, 1, 1]
    network.check_agreement()


@pytest.mark.parametrize("told", [(), (1,), (1, 2)])
def test_a_leader_is_silent_to_some_or_to_all(told: tuple[int, ...]) -> None:
    """What it says to too few makes no quorum; to enough, the others learn it from them."""

    def only(sender: Node, receiver: Node, message: Message) -> bool:
        return sender.number != 0 or receiver.number in told

    network = Network()
    network.filter = only
    network.submit("a", overdue=True)
    network.elapse(8 * TIME_OUT)
    for node in network.nodes[1:]:
        assert stored(node) == {hashed("a")}
    network.check_agreement()


def everything_about(proposal: Proposal) -> list[Message]:
    """All that its leader can sign for it."""
    digest = proposal_digest(proposal)
    return [
        PrePrepare(view=0, proposal=proposal),
        Prepare(view=0, height=1, digest=digest),
        Commit(view=0, height=1, digest=digest),
        Checkpoint(height=1, digest=digest),
    ]


def test_a_leader_shows_two_halves_two_proposals_and_votes_for_both() -> None:
    """At most one of them is ordered, and the honest ones go on."""
    network = Network()
    chain = network.chain
    one, other = (chain.proposal(1, text) for text in ("one", "other"))
    for node in network.nodes[1:]:
        for proposal in (one, other):
            node.bodies[proposal_digest(proposal)] = proposal
    network.nodes[0].is_down = True  # it speaks through this test
    for number, shown in ((1, one), (2, other), (3, other)):
        node = network.nodes[number]
        for proposal in (shown, one, other):
            for message in everything_about(proposal):
                node.step(chain.received(0, message))
    network.run()
    network.submit("c", overdue=True)
    network.elapse(20 * TIME_OUT)
    assert all(hashed("c") in stored(node) for node in network.up())
    network.check_agreement()


class Watched(Node):
    """Tells its replica which transaction has waited longest, as the pool's watch does."""

    def step(self, event: Event) -> list[Effect]:
        if isinstance(event, TransactionsWaiting) and self.pool:
            event = TransactionsWaiting(overdue=True, oldest=hashed(self.pool[0]))
        return super().step(event)


class Censor(Watched):
    """Orders all but one."""

    censored = "x"

    def submit(self, *texts: str, overdue: bool = False) -> None:
        if wanted := [text for text in texts if text != self.censored]:
            super().submit(*wanted, overdue=overdue)


def make_censored(censors: set[int]) -> Network:
    network = Network()
    network.nodes = [(Censor if number in censors else Watched)(network, number) for number in range(4)]
    for node in network.nodes:
        node.step(Started())
    network.run()
    return network


def test_a_leader_orders_everything_but_one_transaction() -> None:
    """Progress alone does not keep it in office: within a bounded time another one leads, and orders what was left."""
    network = make_censored({0})
    start = network.now
    network.submit("x")
    sent = 0
    while not all(hashed("x") in stored(node) for node in network.nodes[1:]):
        network.submit(f"other {sent}")
        network.elapse(TIME_OUT // 4)
        sent += 1
        assert network.now - start < (OVERDUE_PATIENCE + 3) * TIME_OUT
    assert sent > 1  # others were ordered meanwhile
    assert all(node.replica.view == 1 for node in network.nodes)
    network.check_agreement()


def test_an_honest_leader_that_orders_the_oldest_first_stays() -> None:
    network = make_censored(set())
    for number in range(15):
        network.submit(f"tx {number}")
        network.elapse(TIME_OUT // 2)
    assert [node.replica.view for node in network.nodes] == [0, 0, 0, 0]
    assert {len(node.pool) for node in network.nodes} == {0}
