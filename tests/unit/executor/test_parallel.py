"""The lead's steps: overlapped blocks, executors that come, go and sit out, discarded heights, roots."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from chain.errors import InvariantError
from chain.model.merkle import unpack_writes
from executor import parallel
from executor.outcome import POSITION_NONE, ExecutionOutput, ShareOutcome
from executor.parallel import PATIENCE_FACTOR, PATIENCE_S
from executor.planners import FixedPredictor
from executor.predict import Predictor, SummaryPredictor
from executor.protocol import ChannelLost, Overlay, RunShare
from tests.unit.executor.leads import Dealt, Scene, overlapped
from tests.unit.executor.workbench import block_of, results_of

# --- overlapped blocks ---


@pytest.mark.parametrize("executors", [1, 2, 4])
def test_overlapped_blocks_equal_one_at_a_time(executors: int) -> None:
    for seed in range(8):
        draw = random.Random(seed)
        predictor: Predictor = draw.choice((SummaryPredictor(), FixedPredictor(everything=False)))
        scene = Scene(executors=executors, predictor=predictor)
        for _ in range(3):
            height = scene.lead.height
            blocks = [scene.random_block(draw) for _ in range(draw.randrange(1, 5))]
            inputs = [block_of(height + 1 + at, raws) for at, raws in enumerate(blocks)]
            outputs = overlapped(scene, inputs)
            for raws, output in zip(blocks, outputs, strict=True):
                assert results_of(output) == results_of(scene.oracle.run(raws)), seed
                if draw.random() < 0.6 and output.height == scene.reader.height + 1:
                    scene.store(output)
        assert scene.lost == []


def test_a_block_is_with_the_executors_before_the_one_before_it_is_sealed() -> None:
    """They are told its writes without its root, which does not exist yet."""
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    blocks = [block_of(height, scene.counts()) for height in (2, 3)]
    first = scene.lead.plan(blocks[0])
    scene.lead.dispatch(first)
    scene.lead.run(first)
    second = scene.lead.plan(blocks[1])
    scene.lead.finish(first)
    scene.lead.dispatch(second)
    assert [(request.height, len(request.overlays)) for request in scene.links[1].requests] == [(2, 0), (3, 1)]
    sealed = scene.lead.seal(first)
    scene.lead.run(second)
    scene.lead.finish(second)
    assert results_of(sealed) == results_of(scene.oracle.run(blocks[0].transactions))
    assert results_of(scene.lead.seal(second)) == results_of(scene.oracle.run(blocks[1].transactions))


def test_a_block_is_planned_on_any_state_and_dispatched_on_its_own() -> None:
    scene = Scene()
    later = scene.lead.plan(block_of(4, scene.counts()))
    with pytest.raises(InvariantError, match="asked to execute height 4 on the state after 1"):
        scene.lead.dispatch(later)
    with pytest.raises(InvariantError, match="asked to execute height 1 on the state after 1"):
        scene.lead.execute(block_of(1, []))


def test_the_place_names_the_block_at_work() -> None:
    """A dead lead's block is told by it: planning and finishing count, not only transactions."""
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    blocks = [block_of(height, scene.counts(2)) for height in (2, 3)]
    job = scene.lead.plan(blocks[0])
    assert scene.marks.places[-1] == (2, POSITION_NONE)
    scene.lead.dispatch(job)
    scene.lead.run(job)
    assert scene.marks.places[-1] == (2, 0)
    following = scene.lead.plan(blocks[1])
    assert scene.marks.places[-1] == (3, POSITION_NONE)
    scene.lead.finish(job)  # runs the second transaction again
    assert scene.marks.places[-2:] == [(2, POSITION_NONE), (2, 1)]
    scene.lead.dispatch(following)


# --- executors come, go and err ---


def test_an_executor_that_is_lost_between_plan_and_dispatch_is_done_without() -> None:
    """Block 3 is planned for it while it fails at block 2."""
    scene = Scene(executors=3, planner=Dealt(lambda height, position: position % 3))
    blocks = [block_of(height, scene.counts(6)) for height in (2, 3)]
    scene.links[2].spoil = lambda answer: msgspec.structs.replace(answer, gas=())
    outputs = overlapped(scene, blocks)
    for block, output in zip(blocks, outputs, strict=True):
        assert results_of(output) == results_of(scene.oracle.run(block.transactions))
        assert output.stats.executors_lost == 1
    assert scene.lost == [(2, "its answer does not fit the question")]
    assert [request.height for request in scene.links[2].requests] == [2]
    assert [request.height for request in scene.links[1].requests] == [2, 3]
    assert scene.both(scene.counts(6)).stats.executors_lost == 0


def test_one_that_takes_the_place_of_a_lost_one_runs_what_was_planned_for_it() -> None:
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    scene.both(scene.counts())
    job = scene.lead.plan(block_of(3, scene.counts()))
    old, new = scene.links[1], scene.attach(1)
    assert old.closed
    scene.lead.dispatch(job)
    scene.lead.run(job)
    scene.lead.finish(job)
    output = scene.lead.seal(job)
    assert results_of(output) == results_of(scene.oracle.run(job.block.transactions))
    assert [request.height for request in new.requests] == [3]
    assert [overlay.height for overlay in new.requests[0].overlays] == [2]
    assert (len(old.requests), scene.lost, output.stats.executors_lost) == (1, [], 0)


def test_an_executor_that_is_replaced_while_it_works_is_not_waited_for() -> None:
    """Its link is closed, and what it had to do runs here; the new one has been asked nothing yet."""
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    job = scene.lead.plan(block_of(2, scene.counts()))
    scene.lead.dispatch(job)
    scene.links[1].spoil = _closed
    new = scene.attach(1)
    scene.lead.run(job)
    scene.lead.finish(job)
    output = scene.lead.seal(job)
    assert results_of(output) == results_of(scene.oracle.run(job.block.transactions))
    assert (output.stats.executors_lost, output.stats.reexecuted) == (1, 3)
    assert scene.lost == []  # the node knows
    assert scene.both(scene.counts()).stats.executors_lost == 0
    assert len(new.requests) == 1


def _closed(answer: ShareOutcome) -> ShareOutcome:
    raise ChannelLost("receive: Bad file descriptor")


@pytest.mark.parametrize("change", [-1, 1])
def test_an_answer_to_another_question_drops_the_executor(change: int) -> None:
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    scene.both(scene.counts())
    scene.links[1].spoil = lambda answer: msgspec.structs.replace(answer, number=answer.number + change)
    output = scene.both(scene.counts())
    assert (output.stats.executors_lost, scene.links[1].closed) == (1, True)
    assert scene.lost == [(1, "its answer does not fit the question")]


def test_an_earlier_answer_of_the_same_size_is_not_taken() -> None:
    """Also when the same height is executed again, which is why requests are numbered and not heights."""
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    kept: list[ShareOutcome] = []

    def keep_first(answer: ShareOutcome) -> ShareOutcome:
        kept.append(answer)
        return kept[0]

    scene.links[1].spoil = keep_first
    scene.execute(scene.counts())
    scene.lead.discard(2)
    output = scene.both([scene.call("put", 1, 1, value) for value in range(4)])
    assert len(kept) == 2
    assert output.stats.executors_lost == 1


def test_an_executor_that_cannot_be_sent_to_is_dropped() -> None:
    scene = Scene(executors=3, planner=Dealt(lambda height, position: position % 3))
    scene.links[1].is_dead = True
    output = scene.both(scene.counts(6))
    assert scene.lost == [(1, "dead")]
    assert (output.stats.executors_lost, len(scene.links[2].requests)) == (1, 1)


def test_an_executor_without_transactions_is_not_asked() -> None:
    scene = Scene(executors=3, planner=Dealt(lambda height, position: 2 * (position % 2)))
    output = scene.both(scene.counts())
    assert (len(scene.links[1].requests), len(scene.links[2].requests)) == (0, 1)
    assert len(output.stats.busy_us) == 3
    assert output.stats.busy_us[1] == 0


def test_patience_grows_with_the_lead_s_own_share() -> None:
    """The others are waited for together, not one after the other."""
    scene = Scene(executors=3, planner=Dealt(lambda height, position: position % 3))
    output = scene.both(scene.counts(6))
    (first,), (second,) = scene.links[1].timeouts_s, scene.links[2].timeouts_s
    assert PATIENCE_S - 1 < second <= first <= PATIENCE_S + PATIENCE_FACTOR * output.stats.busy_us[0] / 1e6


def test_a_plan_that_fails_costs_nothing_but_the_plan() -> None:
    def fail(height: int, position: int) -> int:
        raise MemoryError

    scene = Scene(planner=Dealt(fail))
    assert scene.both(scene.counts(6)).stats.reason == "unplanned"


def test_executors_are_told_each_write_set_once() -> None:
    scene = Scene(executors=3, planner=Dealt(lambda height, position: position % (2 if height == 3 else 3)))
    outputs = [scene.both(scene.counts(6)) for _ in range(3)]
    scene.store(outputs[0])
    scene.both(scene.counts(6))
    told = {
        index: [(request.height, request.told, [o.height for o in request.overlays]) for request in link.requests]
        for index, link in scene.links.items()
    }
    assert told == {
        1: [(2, 0, []), (3, 1, [2]), (4, 2, [3]), (5, 3, [4])],
        2: [(2, 0, []), (4, 1, [2, 3]), (5, 3, [4])],
    }
    requests = [request.number for link in scene.links.values() for request in link.requests]
    assert len(set(requests)) == 7


# --- what executors wrote themselves ---


def told(request: RunShare) -> list[tuple[int, int, int]]:
    """(height, share it builds on or 0, number of keys) of each write set."""
    return [(o.height, o.own, len(dict(unpack_writes(o.writes)))) for o in request.overlays]


def test_an_executor_whose_share_held_is_told_the_rest() -> None:
    scene = Scene(executors=3, planner=Dealt(lambda height, position: position % 3))
    for _ in range(2):
        scene.both([scene.call("put", 1, index, 5) for index in range(8)])  # three, three and two
    first, second = scene.links[1].requests[-1], scene.links[2].requests[-1]
    numbers = [link.requests[0].number for link in scene.links.values()]
    assert (told(first), told(second)) == ([(2, numbers[0], 5)], [(2, numbers[1], 6)])
    output = scene.both([scene.call("strict", 1, index) for index in range(8)])
    assert output.stats.executors_lost == 0


def test_keys_that_several_executors_wrote_are_in_every_rest() -> None:
    """What one of them wrote last was not the last of the block."""
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    for last in (0, 1):  # the lead writes last, or the other one does
        raws = [scene.call("put", 1, 1, value) for value in range(4 + last)]
        scene.both(raws)
        scene.both([scene.call("strict", 1, 1) for _ in range(4)])
    assert [told(request) for request in scene.links[1].requests[1::2]] == [[(2, 1, 1)], [(4, 3, 1)]]


def test_an_executor_whose_share_did_not_hold_is_told_all() -> None:
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    scene.both(scene.counts())
    scene.both(scene.counts())
    assert told(scene.links[1].requests[-1]) == [(2, 0, 1)]


def test_a_rest_waits_for_an_executor_that_sits_out() -> None:
    scene = Scene(planner=Dealt(lambda height, position: 0 if height in (3, 4) else position % 2))
    for height in (2, 3, 4, 5):
        scene.both([scene.call("put", height, index, 5) for index in range(6)])
    assert told(scene.links[1].requests[-1]) == [(2, 1, 3), (3, 0, 6), (4, 0, 6)]
    scene.both([scene.call("put", 2, index, 5) for index in range(6)])
    assert told(scene.links[1].requests[-1]) == [(5, 2, 3)]


def test_a_rest_of_a_stored_height_is_dropped() -> None:
    scene = Scene(planner=Dealt(lambda height, position: 0 if height == 3 else position % 2))
    outputs = [scene.both([scene.call("put", height, index, 5) for index in range(6)]) for height in (2, 3)]
    scene.store(outputs[0])
    scene.both([scene.call("strict", 2, index) for index in range(6)])
    assert told(scene.links[1].requests[-1]) == [(3, 0, 6)]


def test_a_rest_is_void_once_its_height_is_discarded() -> None:
    """The executor still has its share of the old height, which nobody wants."""
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    scene.execute([scene.call("put", 1, index, 5) for index in range(6)])
    scene.lead.discard(2)
    scene.lead._planner = Dealt(lambda height, position: 0)
    scene.both([scene.call("put", 1, index, 7) for index in range(3)])
    scene.lead._planner = scene.planner
    output = scene.both([scene.call("strict", 1, index) for index in range(6)])
    assert told(scene.links[1].requests[-1]) == [(2, 0, 3)]
    assert output.stats.executors_lost == 0


def test_a_new_executor_is_told_all() -> None:
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    job = scene.lead.plan(block_of(2, [scene.call("put", 1, index, 5) for index in range(6)]))
    scene.lead.dispatch(job)
    scene.lead.run(job)
    new = scene.attach(1)  # the old one's answer is there already
    scene.lead.finish(job)
    assert results_of(scene.lead.seal(job)) == results_of(scene.oracle.run(job.block.transactions))
    scene.both([scene.call("strict", 1, index) for index in range(6)])
    assert told(new.requests[-1]) == [(2, 0, 6)]


# --- discarding ---


@pytest.mark.parametrize("stored", [0, 1, 2])
@pytest.mark.parametrize("sits_out", [True, False])
def test_executors_forget_what_was_discarded(sits_out: bool, stored: int) -> None:
    """They are told the write set of a height that is discarded, sit out while it is executed anew, and it is stored:
    what they keep of the old one must not be read again."""
    scene = Scene(planner=Dealt(lambda height, position: 0 if sits_out and height in (3, 4) else position % 2))
    first = scene.both(scene.counts())
    scene.execute([scene.call("put", 0, index, 7) for index in range(4)])  # height 3, discarded later
    scene.lead._planner = Dealt(lambda height, position: 1)
    scene.execute([scene.call("strict", 0, index) for index in range(4)])  # height 4: told of the old height 3
    assert [overlay.height for overlay in scene.links[1].requests[-1].overlays][-1:] == [3]
    scene.lead._planner = scene.planner
    scene.lead.discard(3)
    outputs = [first, scene.both([scene.call("put", 0, 0, 9), *scene.counts(3)])]
    for output in outputs[:stored]:
        scene.store(output)
    scene.lead._planner = Dealt(lambda height, position: 1)
    scene.both([scene.call("strict", 0, index) for index in range(4)])
    request = scene.links[1].requests[-1]
    assert request.told == 2
    assert [overlay.height for overlay in request.overlays] == ([] if stored == 2 else [3])
    assert scene.lost == []


def test_random_discards_change_nothing() -> None:
    """Executors sit some blocks out, heights are discarded before they are stored, the store lags: all results are the
    oracle's."""
    rests = 0
    for seed in range(25):
        draw = random.Random(seed)
        scene = Scene(executors=3, planner=Dealt(_dealer(seed)))
        waiting: list[tuple[list[bytes], ExecutionOutput]] = []
        for _ in range(14):
            if waiting and draw.random() < 0.3:
                kept = draw.randrange(len(waiting))
                scene.lead.discard(waiting[kept][1].height)
                del waiting[kept:]
            raws = scene.random_block(draw)
            waiting.append((raws, scene.execute(raws)))
            while waiting and draw.random() < 0.35:
                raws, output = waiting.pop(0)
                assert results_of(output) == results_of(scene.oracle.run(raws)), seed
                scene.store(output)
        for raws, output in waiting:
            assert results_of(output) == results_of(scene.oracle.run(raws)), seed
        assert scene.lost == []
        requests = [request for link in scene.links.values() for request in link.requests]
        rests += sum([overlay.own > 0 for request in requests for overlay in request.overlays])
    assert rests > 20


def _dealer(seed: int) -> Callable[[int, int], int]:
    """Each height to some executors only."""
    return lambda height, position: (7 * height + seed) % 4 * position % 3


def test_a_stored_height_is_not_discarded() -> None:
    scene = Scene()
    scene.store(scene.both(scene.counts()))
    scene.both(scene.counts())
    with pytest.raises(InvariantError, match="the state is stored up to 2"):
        scene.lead.discard(2)
    scene.lead.discard(3)
    assert scene.lead.height == 2


def test_roots_chain_from_what_was_kept() -> None:
    scene = Scene()
    scene.both(scene.counts())
    for _ in range(3):
        scene.execute(scene.counts(5))
    scene.lead.discard(4)
    scene.lead.discard(3)
    scene.both(scene.counts(1))
    scene.execute(scene.counts(2))
    scene.lead.discard(4)
    scene.both(scene.counts(1))


def test_a_lead_forgets_what_is_stored_and_what_is_discarded() -> None:
    """It runs for ever: what it keeps of executed heights is bounded by how far the store lags."""
    scene = Scene()
    for _ in range(3 * 4):
        outputs = [scene.both(scene.counts(1)) for _ in range(3)]
        for output in outputs:
            scene.store(output)
        scene.execute(scene.counts(1))
        assert (len(scene.lead._roots), len(scene.lead._overlays)) == (1, 1)
        scene.lead.discard(scene.lead.height)
        assert (len(scene.lead._roots), len(scene.lead._overlays)) == (0, 0)


# --- a lead that takes over ---


@pytest.mark.parametrize("stored", [0, 1, 2, 3])
def test_a_new_lead_catches_up_with_roots(stored: int) -> None:
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    outputs = [scene.both(scene.counts()) for _ in range(3)]
    overlays = [Overlay(height=o.height, state_root=o.state_root, writes=o.writes) for o in outputs]
    for output in outputs[:stored]:
        scene.store(output)
    scene.lead = scene.new_lead()
    scene.lead.catch_up(overlays)
    assert scene.lead.height == 4
    link = scene.links[1]
    scene.lead.attach(1, link)  # the same executor, whatever it knows
    scene.both(scene.counts())
    request = link.requests[-1]
    assert (request.told, [overlay.height for overlay in request.overlays]) == (0, [2, 3, 4][stored:])
    scene.both(scene.counts())
    scene.lead.discard(5)
    assert scene.lead.height == 4


def test_a_lead_goes_on_from_heights_that_others_executed_and_stored() -> None:
    """As a node does that was sent the state; the executors are told nothing of these heights."""
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    scene.store(scene.both(scene.counts()))
    for _ in range(2):
        scene.store(scene.oracle.run(scene.counts(1)))
    raws = scene.counts()
    assert results_of(scene.lead.execute(block_of(5, raws))) == results_of(scene.oracle.run(raws))
    assert scene.links[1].requests[-1].overlays == ()


# --- statistics ---


def test_statistics_say_how_a_block_was_executed() -> None:
    scene = Scene(predictor=SummaryPredictor())
    output = scene.both([*scene.counts(3), scene.call("append", 1), scene.call("fund", 1, sender=2)])
    stats = output.stats
    assert (stats.mode, stats.reason, stats.shards, stats.shard_sizes) == ("parallel", "planned", 3, (3, 1, 1))
    assert (stats.largest_shard, stats.conflicts_predicted, stats.conflicts_actual, stats.reexecuted) == (3, 2, 2, 0)
    assert stats.wall_us >= stats.busy_us[0]
    scene = Scene(planner=Dealt(lambda height, position: position // 3))
    stats = scene.both(scene.counts(4)).stats
    assert (stats.conflicts_predicted, stats.conflicts_actual, stats.reexecuted) == (0, 3, 1)
    assert stats.cpu_us > 0


def test_a_block_that_killed_a_lead_runs_one_by_one() -> None:
    scene = Scene()
    block = block_of(2, scene.counts())
    output = scene.lead.execute(block, attempt=2)
    assert results_of(output) == results_of(scene.oracle.run(block.transactions))
    assert (output.stats.mode, output.stats.reason, output.stats.shard_sizes) == ("serial", "retry", (4,))
    assert scene.marks.places == [(2, -1), (2, 0), (2, 1), (2, 2), (2, 3), (2, -1)]
    assert scene.links[1].requests == []


def test_a_plan_that_gains_nothing_is_not_carried_out() -> None:
    scene = Scene(predictor=FixedPredictor(everything=True), mode="parallel")
    reasons = [scene.both(scene.counts(60)).stats.reason for _ in range(3)]
    assert reasons == ["single_shard"] * 3
    assert scene.links[1].requests == []


def test_an_executor_that_lacks_too_much_sits_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that lags behind blocks full of writes must not make frames that nobody takes."""
    scene = Scene(planner=Dealt(lambda height, position: position % 2))
    outputs = [scene.both(scene.counts(6)) for _ in range(2)]
    monkeypatch.setattr(parallel, "OVERLAY_BYTES_MAX", len(outputs[-1].writes) - 1)
    newcomer = scene.attach(1)
    outputs.append(scene.both(scene.counts(6)))
    assert (newcomer.requests, scene.lost) == ([], [])
    for output in outputs:
        scene.store(output)
    scene.both(scene.counts(6))
    assert len(newcomer.requests) == 1
