"""Failures that other chains had with liveness: dead or frozen leaders, partitions, lost messages.

Each test is named after the failure it stops.
"""

from __future__ import annotations

import hashlib
from collections import deque

from consensus.events import Started
from consensus.messages import (
    Checkpoint,
    Commit,
    NewView,
    Prepare,
    PrePrepare,
    Status,
)
from tests.unit.consensus.members import CONFIG, WINDOW
from tests.unit.consensus.network import Network, Node, lose

TIME_OUT = CONFIG.view_timeout_ms


def texts(node: Node) -> list[bytes]:
    """The transactions of a node's blocks, in order."""
    return [hash_ for proposal, _, _ in node.blocks for hash_ in proposal.transaction_hashes()]


def hashed(*names: str) -> list[bytes]:
    return [hashlib.sha256(name.encode()).digest() for name in names]


def everything(sender: Node, receiver: Node, message: object) -> bool:
    return True


def test_a_killed_leader_is_replaced_and_comes_back() -> None:
    network = Network()
    network.submit("a", "b")
    network.nodes[0].is_down = True
    network.submit("c", overdue=True)
    network.elapse(2 * TIME_OUT)
    assert network.heights() == [2, 3, 3, 3]
    assert [node.replica.view for node in network.up()] == [1, 1, 1]
    returned = network.nodes[0]
    returned.start()
    returned.step(Started())
    network.run()
    network.elapse(5_000)
    assert returned.replica.view == 1
    assert network.heights() == [3, 3, 3, 3]
    network.submit("d")
    assert network.heights() == [4, 4, 4, 4]
    network.check_agreement()


def test_two_leaders_in_a_row_are_dead() -> None:
    network = Network(7)
    network.submit("a")
    for number in (0, 1):
        network.nodes[number].is_down = True
    network.submit("b", overdue=True)
    network.elapse(10 * TIME_OUT)
    assert [node.replica.view for node in network.up()] == [2] * 5
    assert [texts(node) for node in network.up()] == [hashed("a", "b")] * 5


def test_a_frozen_leader_whose_connection_is_alive_cannot_be_replaced() -> None:
    """It acknowledges everything and proposes nothing."""
    network = Network()
    frozen = network.nodes[0]
    frozen.pack = lambda: None  # type: ignore[method-assign]
    network.submit("a", overdue=True)
    network.elapse(3 * TIME_OUT)
    assert [texts(node) for node in network.nodes] == [hashed("a")] * 4
    assert [node.replica.view for node in network.nodes] == [1] * 4


def test_the_partition_of_one_node_stops_all() -> None:
    network = Network()
    network.filter = lose(2)
    network.submit("a", "b", "c")
    assert network.heights() == [3, 3, 0, 3]
    network.filter = everything
    network.submit("d")
    network.elapse(3 * TIME_OUT)
    assert network.heights() == [4, 4, 4, 4]
    network.check_agreement()


def test_more_than_f_nodes_restart_in_the_middle_and_the_chain_stays_halted() -> None:
    network = Network()
    network.filter = lambda sender, receiver, message: not isinstance(message, Checkpoint)
    network.submit("a", "b")
    assert network.heights() == [0, 0, 0, 0]
    for node in network.nodes:
        node.start()
    network.filter = everything
    for node in network.nodes:
        node.step(Started())
    network.run()
    network.elapse(5_000)
    assert network.heights() == [2, 2, 2, 2]
    network.check_agreement()


def test_a_node_joins_and_the_quorum_is_reachable_but_nothing_triggers_progress() -> None:
    network = Network()
    for number in (2, 3):
        network.nodes[number].is_down = True
    network.submit("a")
    network.elapse(30_000)
    assert network.heights() == [0, 0, 0, 0]
    returned = network.nodes[2]
    returned.start()
    returned.step(Started())
    network.run()
    network.elapse(4 * CONFIG.view_timeout_ms_max)
    assert network.heights()[:3] == [1, 1, 1]
    network.check_agreement()


def test_a_node_leaves_the_view_before_it_learns_what_is_ordered_and_the_others_wait_for_its_checkpoint_vote() -> None:
    """With one node dead, the two that have ordered the height need the third to execute it: they join its view."""
    network = Network()
    network.nodes[1].is_down = True
    cut = network.nodes[3]
    network.filter = lambda sender, receiver, message: not (
        receiver is cut and isinstance(message, Commit | Checkpoint | Status)
    )
    network.submit("a")
    assert [node.replica.ordered_height for node in network.up()] == [1, 1, 0]
    network.elapse(TIME_OUT)
    assert cut.replica.is_changing
    network.filter = everything
    network.elapse(6 * TIME_OUT)
    assert [texts(node) for node in network.up()] == [hashed("a")] * 3
    network.check_agreement()


def test_lost_messages_are_never_said_again() -> None:
    for kind in (PrePrepare, Prepare, Commit, Checkpoint):
        network = Network()
        network.filter = lambda sender, receiver, message, kind=kind: not isinstance(message, kind)  # type: ignore[misc]
        network.submit("a")
        network.filter = everything
        network.elapse(TIME_OUT - 1)  # long before anybody changes the view
        assert network.heights() == [1, 1, 1, 1], kind.__name__
        assert [node.replica.view for node in network.nodes] == [0] * 4


def test_a_lost_new_view_leaves_a_node_behind_for_ever() -> None:
    network = Network()
    network.nodes[0].is_down = True
    network.filter = lambda sender, receiver, message: not (isinstance(message, NewView) and receiver.number == 3)
    network.submit("a", overdue=True)
    network.elapse(TIME_OUT)
    assert network.nodes[3].replica.is_changing
    network.filter = everything
    network.elapse(3 * TIME_OUT)
    assert [texts(node) for node in network.up()] == [hashed("a")] * 3
    assert not network.nodes[3].replica.is_changing


def test_slow_execution_makes_the_nodes_change_the_view() -> None:
    """Another leader cannot make execution faster."""
    network = Network()
    for node in network.nodes:
        node.slow_execution = deque()
    network.submit(*[f"{number}" for number in range(2 * WINDOW)], overdue=True)
    network.elapse(10 * TIME_OUT)
    assert [node.replica.ordered_height for node in network.nodes] == [WINDOW] * 4
    assert [node.replica.view for node in network.nodes] == [0] * 4
    for node in network.nodes:
        node.execute_slow()
    network.run()
    assert network.heights() == [2 * WINDOW] * 4


def test_more_than_f_nodes_restart_with_empty_data_directories() -> None:
    """Besu #8307. What the others have certified is fetched from them, and the chain goes on."""
    network = Network()
    network.submit("a", "b", "c")
    assert network.heights() == [3, 3, 3, 3]
    for node in network.nodes[2:]:
        node.is_down = True
    network.elapse(1_000)
    for node in network.nodes[2:]:
        node.journal, node.blocks, node.pool, node.bodies = [], [], [], {}
        node.start()
        node.step(Started())
    network.run()
    network.elapse(20 * TIME_OUT)
    assert network.heights() == [3, 3, 3, 3]
    network.submit("d", overdue=True)
    network.elapse(20 * TIME_OUT)
    assert network.heights() == [4, 4, 4, 4]
    network.check_agreement()


def test_a_crash_and_restart_under_conflicting_transactions_wedges_the_others() -> None:
    """FISCO #4417. The leader dies with the same transactions in its proposals that the others propose meanwhile."""
    network = Network()
    network.filter = lambda sender, receiver, message: not isinstance(message, Commit)
    network.submit("a", "b")
    leader = network.nodes[0]
    leader.is_down = True
    network.filter = everything
    network.submit("b", "a", "c", overdue=True)
    network.elapse(4 * TIME_OUT)
    leader.start()
    leader.step(Started())
    leader.submit("a", "b", "c", overdue=True)
    network.run()
    network.submit("d", overdue=True)
    network.elapse(20 * TIME_OUT)
    assert len(set(network.heights())) == 1
    for node in network.nodes:
        ordered = texts(node)
        assert set(ordered) == set(hashed("a", "b", "c", "d"))
    network.check_agreement()
