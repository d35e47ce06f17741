"""Membership by system contract: who may change the validator set, how, and from which height it holds."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from chain.crypto import Scheme, address_of
from chain.model.merkle import pack_writes
from chain.model.signing import ValidatorKey
from chain.model.validators import ValidatorSchedule, ValidatorSet, validator_id
from contracts.runtime.errors import Status
from contracts.runtime.testing import LocalChain, Result
from contracts.system import SYSTEM_ADDRESS
from contracts.system.members import OPEN_EACH_MAX, WEIGHT_MAX, possession_digest, rotation_pause
from contracts.system.membership import SETS_PREFIX, scheduled_rows, scheduled_set

WINDOW = 4


def key_of(number: int) -> ValidatorKey:
    return ValidatorKey(bytes([number + 1]) * 32)


class Consortium:
    """A chain with validators of the given weights; key i is that of the node "node i"."""

    def __init__(self, *weights: int, window: int = WINDOW, keys: int = 12) -> None:
        self.keys = [key_of(number) for number in range(keys)]
        self.chain = LocalChain(
            window=window,
            validators=[(f"node {at}", self.keys[at].public_key, weight) for at, weight in enumerate(weights)],
        )
        self.scheduled: list[tuple[int, ValidatorSet]] = []

    def call(self, caller: int, method: str, *arguments: Any) -> Result:
        result = self.chain.call(SYSTEM_ADDRESS, method, *arguments, sender=self.account(caller))
        writes = pack_writes(sorted(result.outcome.writes.items()))
        found = scheduled_set(writes)
        if found is not None:
            self.scheduled.append((self.chain.height, found))
        return result

    def done(self, caller: int, method: str, *arguments: Any) -> Any:
        result = self.call(caller, method, *arguments)
        assert result.ok, result.error
        return result.value

    def refused(self, caller: int, method: str, *arguments: Any) -> str:
        result = self.call(caller, method, *arguments)
        assert not result.ok
        return result.error

    def account(self, number: int) -> bytes:
        return address_of(Scheme.ED25519, self.keys[number].public_key)

    def id(self, number: int) -> bytes:
        return validator_id(self.keys[number].public_key)

    def possession(self, number: int, *, replaces: bytes = b"") -> bytes:
        key = self.keys[number]
        digest = possession_digest(chain_id=self.chain.chain_id, public_key=key.public_key, replaces=replaces)
        return key.sign(digest)

    def propose_add(self, caller: int, number: int, *, weight: int = 1) -> Result:
        return self.call(
            caller, "propose_add", f"node {number}", self.keys[number].public_key, weight, f"host-{number}:30300",
            self.possession(number),
        )  # fmt: skip

    def approve(self, number: int, *callers: int) -> int:
        """What the last approval returned."""
        returned: list[int] = [self.done(caller, "approve", number) for caller in callers]
        return returned[-1]

    def pass_window(self) -> None:
        self.chain.height += WINDOW

    def read(self, method: str, *arguments: Any) -> Any:
        return self.chain.read(SYSTEM_ADDRESS, method, *arguments).value

    @property
    def weights(self) -> dict[bytes, int]:
        """Of the set that holds for the height of the block that comes next."""
        self.chain.height += 1
        _, members = self.read("validators")
        self.chain.height -= 1
        return {member[0]: member[3] for member in members}


@pytest.fixture
def four() -> Consortium:
    return Consortium(1, 1, 1, 1)


def test_a_quorum_adds_a_validator_window_plus_one_heights_later(four: Consortium) -> None:
    number = four.propose_add(0, 4, weight=2).value
    assert number == 1 and four.approve(number, 1) == 0
    assert four.read("scheduled") is None and not four.scheduled
    from_height = four.approve(number, 2)
    assert from_height == four.chain.height + WINDOW + 1
    ((height, scheduled),) = four.scheduled
    assert height == four.chain.height
    assert [(member.name, member.weight) for member in scheduled.members][-1] == ("node 4", 2)
    assert four.read("scheduled")[0] == from_height
    four.chain.height = from_height - 2
    assert four.refused(4, "set_endpoint", "a:1").startswith("not_a_validator")  # at the last height of the epoch
    assert four.chain.height == from_height - 1
    assert four.done(4, "set_endpoint", "a:1") is None  # at the first one of the next
    assert four.read("scheduled") is None
    assert four.read("validators")[0] == from_height
    assert four.read("validators")[1][-1] == (four.id(4), "node 4", four.keys[4].public_key, 2, "a:1")


def test_events_tell_the_story(four: Consortium) -> None:
    proposed = four.propose_add(0, 4)
    assert proposed.events == [
        ("ChangeProposed", {"number": 1, "kind": "add", "validator": four.id(4), "proposer": four.id(0)}),
        ("ChangeApproved", {"number": 1, "approver": four.id(0), "weight": 1, "quorum": 3}),
    ]
    four.approve(1, 1)
    last = four.call(2, "approve", 1)
    assert [name for name, _ in last.events] == ["ChangeApproved", "ValidatorsScheduled"]
    assert last.events[1][1] == {"from_height": last.value, "digest": four.scheduled[0][1].digest, "validators": 5}


def test_an_approval_counts_once(four: Consortium) -> None:
    four.propose_add(0, 4)
    assert four.refused(0, "approve", 1) == "already_approved: weight 1 of the 3 needed so far"
    four.approve(1, 1)
    assert four.refused(1, "approve", 1) == "already_approved: weight 2 of the 3 needed so far"
    assert not four.scheduled


def test_weight_decides_not_heads() -> None:
    heavy = Consortium(6, 1, 1, 1)  # W = 9, F = 2, a quorum weighs 7
    heavy.propose_add(1, 4)
    assert heavy.approve(1, 2, 3) == 0  # three of four heads weigh 3
    assert heavy.approve(1, 0) > 0
    alone = Consortium(20, 1, 1, 1)  # W = 23, F = 7, a quorum weighs 16
    assert alone.propose_add(0, 4).ok and len(alone.scheduled) == 1


def test_nobody_else_proposes_approves_or_rotates(four: Consortium) -> None:
    four.propose_add(0, 4)
    for method, arguments in [
        ("approve", (1,)), ("withdraw", (1,)), ("propose_remove", (four.id(0),)),
        ("propose_weight", (four.id(0), 2)), ("set_endpoint", ("a:1",)),
        ("rotate_key", (four.keys[6].public_key, four.possession(6, replaces=four.id(5)))),
    ]:  # fmt: skip
        assert four.refused(5, method, *arguments).startswith("not_a_validator"), method
    assert four.propose_add(4, 5).status == Status.FORBIDDEN


def test_a_contract_cannot_speak_for_a_validator(four: Consortium) -> None:
    """The caller of the system method counts, not who signed the transaction."""
    source = """
class System(Interface):
    @external
    def propose_remove(self, validator: Address) -> int: ...
class Trap(Contract):
    @external
    def pull(self, system: Address, victim: Address) -> int:
        return System(system).propose_remove(victim)
"""
    four = Consortium(1, 1, 1, 1, 1)
    trap = four.chain.deploy("trap", source)
    result = four.chain.call(trap, "pull", SYSTEM_ADDRESS, four.id(1), sender=four.account(0))
    assert not result.ok and "not_a_validator" in result.error


def test_at_most_one_change_is_pending(four: Consortium) -> None:
    four.propose_add(0, 4)
    four.propose_add(1, 5)
    from_height = four.approve(1, 1, 2)
    assert four.approve(2, 2) == 0
    text = f"change_pending: another set is in force from height {from_height} on; try again at {from_height} or later"
    assert four.refused(3, "approve", 2) == text
    assert four.refused(3, "rotate_key", four.keys[7].public_key, four.possession(7, replaces=four.id(3))) == text
    four.chain.height = from_height - 1
    assert four.approve(2, 3) == 0  # five of weight 1 are in force now, a quorum weighs 4
    assert four.approve(2, 0) == four.chain.height + WINDOW + 1
    assert len(four.scheduled) == 2 and len(four.scheduled[-1][1]) == 6


def test_approvals_of_who_left_count_no_longer() -> None:
    five = Consortium(1, 1, 1, 1, 1)  # a quorum weighs 4
    five.propose_add(4, 6)
    five.approve(1, 0, 1)
    assert five.done(0, "propose_remove", five.id(4)) == 2
    five.approve(2, 1, 2, 3)
    five.pass_window()
    assert five.id(4) not in five.weights
    assert five.refused(4, "approve", 1).startswith("not_a_validator")
    # four are left, a quorum weighs 3; 0, 1 and the one who left had approved
    assert five.refused(0, "approve", 1) == "already_approved: weight 2 of the 3 needed so far"
    assert five.approve(1, 2) > 0


def test_four_validators_are_the_fewest(four: Consortium) -> None:
    error = four.refused(0, "propose_remove", four.id(3))
    assert error == "set_size: 3 validators would be left, must be 4..100"
    five = Consortium(1, 1, 1, 1, 1)
    for number, gone in ((1, 4), (2, 3)):  # each alone would leave four
        assert five.done(0, "propose_remove", five.id(gone)) == number
    five.approve(1, 1, 2, 3)
    five.pass_window()
    five.approve(2, 1)
    assert five.refused(2, "approve", 2).startswith("set_size: 3 validators")
    assert len(five.weights) == 4


def test_a_validator_that_is_alone_stays_alone_and_may_rotate_its_key_and_have_observers() -> None:
    one = Consortium(1)
    assert one.propose_add(0, 1).error == "set_size: 2 validators would be left, must be 4..100"
    assert one.refused(0, "propose_weight", one.id(0), 4).startswith("set_size: 1 validators")
    assert one.refused(0, "propose_remove", one.id(0)).startswith("set_size: 0 validators")
    key = one.keys[5].public_key
    assert one.done(0, "propose_observer", "watcher", key, "host-5:1", one.possession(5)) == 1
    assert [observer[1] for observer in one.read("observers")] == ["watcher"]
    assert one.refused(0, "propose_promotion", one.id(5), 1).startswith("set_size: 2 validators")
    assert one.done(0, "rotate_key", one.keys[1].public_key, one.possession(1, replaces=one.id(0))) > 0
    one.pass_window()
    assert list(one.weights) == [one.id(1)]


def test_weights_change(four: Consortium) -> None:
    assert four.done(0, "propose_weight", four.id(3), 5) == 1
    four.approve(1, 1, 2)
    four.pass_window()
    assert four.weights == {four.id(0): 1, four.id(1): 1, four.id(2): 1, four.id(3): 5}
    assert four.refused(0, "propose_weight", four.id(3), 5).startswith("no_change")
    for weight in (0, -1, WEIGHT_MAX + 1, 2**80):
        assert four.refused(0, "propose_weight", four.id(3), weight) == f"weight: must be 1..{WEIGHT_MAX}"
    assert four.refused(0, "propose_weight", four.id(9), 2).startswith("unknown_validator")


def test_observers_come_are_promoted_and_go(four: Consortium) -> None:
    key = four.keys[4]
    four.done(0, "propose_observer", "watcher", key.public_key, "[::1]:30300", four.possession(4))
    assert four.approve(1, 1, 2) == four.chain.height  # at once: an observer has no voice
    assert four.read("observers") == ((four.id(4), "watcher", key.public_key, "[::1]:30300"),)
    assert not four.scheduled and four.id(4) not in four.weights
    assert four.propose_add(0, 4).error == "known_key: it is an observer's key; propose its promotion"
    four.done(0, "propose_promotion", four.id(4), 3)
    four.approve(2, 1, 2)
    assert four.read("observers") == ()
    four.pass_window()
    assert four.weights[four.id(4)] == 3
    assert four.refused(0, "propose_promotion", four.id(4), 3).startswith("unknown_observer")
    four.done(0, "propose_observer", "other", four.keys[5].public_key, "o:1", four.possession(5))
    four.approve(3, 1, 4)  # W = 7, a quorum weighs 5
    four.done(1, "propose_remove_observer", four.id(5))
    four.approve(4, 0, 4)
    assert four.read("observers") == ()


def test_a_new_key_must_be_shown_to_be_held(four: Consortium) -> None:
    def error(possession: bytes) -> str:
        return four.refused(0, "propose_add", "node 4", four.keys[4].public_key, 1, "a:1", possession)

    wrong = "possession: not the new key's signature for this chain and purpose"
    assert error(four.possession(5)) == wrong
    assert error(b"") == wrong
    assert error(four.possession(4, replaces=four.id(0))) == wrong  # a rotation's
    other = possession_digest(chain_id=bytes(32), public_key=four.keys[4].public_key)
    assert error(four.keys[4].sign(other)) == wrong  # another chain's
    rotation = four.refused(0, "rotate_key", four.keys[4].public_key, four.possession(4))
    assert rotation == wrong  # an addition's: nobody takes over a key that somebody else brought
    for_other = four.possession(4, replaces=four.id(1))
    assert four.refused(0, "rotate_key", four.keys[4].public_key, for_other) == wrong


def test_a_key_is_rotated_by_the_old_one(four: Consortium) -> None:
    new = four.keys[4].public_key
    four.done(1, "set_endpoint", "host-1:30300")
    from_height = four.done(1, "rotate_key", new, four.possession(4, replaces=four.id(1)))
    ((height, scheduled),) = four.scheduled
    assert from_height == height + WINDOW + 1
    assert [member.public_key for member in scheduled.members] == [
        four.keys[0].public_key, new, four.keys[2].public_key, four.keys[3].public_key,
    ]  # fmt: skip
    assert four.refused(4, "set_endpoint", "a:1").startswith("not_a_validator")
    four.chain.height = from_height - 1
    assert four.refused(1, "set_endpoint", "a:1").startswith("not_a_validator")
    four.done(4, "set_endpoint", "b:2")
    pause = rotation_pause(4, WINDOW)
    again = four.refused(4, "rotate_key", four.keys[5].public_key, four.possession(5, replaces=four.id(4)))
    assert again == f"rotated_too_soon: this key may be rotated from height {from_height + pause} on"
    four.chain.height = from_height + pause - 1
    assert four.done(4, "rotate_key", four.keys[5].public_key, four.possession(5, replaces=four.id(4)))


@pytest.mark.parametrize(("method", "more", "left"), [("propose_remove", (), None), ("propose_weight", (2,), 2)])
def test_nobody_escapes_a_change_by_rotating(method: str, more: tuple[int, ...], left: int | None) -> None:
    five = Consortium(1, 1, 1, 1, 1)
    number = five.done(0, method, five.id(4), *more)
    other = five.done(0, "propose_remove", five.id(3))
    five.done(1, "approve", number)
    five.done(2, "approve", number)
    five.done(4, "rotate_key", five.keys[5].public_key, five.possession(5, replaces=five.id(4)))
    assert five.read("change", number)[3] == five.keys[5].public_key
    assert five.read("change", other)[3] == five.keys[3].public_key
    five.pass_window()
    assert five.done(3, "approve", number)
    five.pass_window()
    assert five.id(4) not in five.weights
    assert five.weights.get(five.id(5)) == left


@pytest.mark.parametrize(("validators", "window"), [(4, 1), (16, 64), (40, 8)])
def test_rotations_leave_room_for_other_changes(validators: int, window: int) -> None:
    """F validators rotate whenever they may, each time before anybody else has a word."""
    rotating = (validators - 1) // 3
    world = Consortium(*[1] * validators, window=window, keys=validators + 4 * rotating + 2)
    unused = iter(range(validators + 1, len(world.keys)))
    using = list(range(rotating))
    assert world.propose_add(rotating, validators).ok
    quorum = validators - rotating
    for number in range(rotating + 1, rotating + quorum - 1):
        world.done(number, "approve", 1)  # all but the last
    for _ in range(3 * rotating):
        for at, old in enumerate(using):
            new = next(unused)
            possession = world.possession(new, replaces=world.id(old))
            result = world.call(old, "rotate_key", world.keys[new].public_key, possession)
            world.chain.height -= 1  # all in one block
            if result.ok:
                using[at] = new
                world.chain.height = result.value - 1
                break
            unused = chain((new,), unused)
        else:
            break  # nobody of them may
    else:
        raise AssertionError("the pending place was never free")
    assert world.done(validators - 1, "approve", 1) > 0
    assert world.read("change", 1)[9] == "effected"
    assert validators * (window + 1) <= rotation_pause(validators, window) // 2


def test_changes_are_withdrawn_by_their_proposer(four: Consortium) -> None:
    four.propose_add(0, 4)
    assert four.refused(1, "withdraw", 1) == "not_the_proposer"
    four.done(0, "withdraw", 1)
    assert four.read("changes") == () and four.read("change", 1)[9] == "withdrawn"
    assert four.refused(1, "approve", 1) == "no_open_change: number 1"
    assert four.refused(0, "withdraw", 1) == "no_open_change: number 1"
    assert four.read("change", 7) is None and four.read("change", -1) is None and four.read("change", 2**70) is None


def test_what_is_left_of_a_leaver_anyone_withdraws() -> None:
    five = Consortium(1, 1, 1, 1, 1)
    five.propose_add(4, 6)
    five.done(0, "propose_remove", five.id(4))
    five.approve(2, 1, 2, 3)
    five.pass_window()
    five.done(2, "withdraw", 1)


def test_open_changes_are_bounded_per_proposer(four: Consortium) -> None:
    for number in range(OPEN_EACH_MAX):
        assert four.propose_add(0, 4 + number).ok
    assert four.propose_add(0, 4 + OPEN_EACH_MAX).error.startswith("too_many_changes")
    assert four.propose_add(1, 4 + OPEN_EACH_MAX).ok


def standing(world: Consortium, number: int) -> str:
    text: str = world.read("change", number)[9]
    return text


def test_what_can_be_made_no_more_gives_way_to_a_new_proposal_of_its_proposer() -> None:
    six = Consortium(1, 1, 1, 1, 1, 1)
    removal = [six.done(0, "propose_remove", six.id(gone)) for gone in (3, 4, 5)]  # after two of them, four are left
    weight = six.done(0, "propose_weight", six.id(5), 7)
    other = six.done(1, "propose_weight", six.id(5), 9)
    for number, approvers in ((removal[2], (1, 2, 3, 4)), (removal[1], (1, 2, 3))):
        six.approve(number, *approvers)
        six.pass_window()
    assert len(six.weights) == 4 and [standing(six, number) for number in (removal[0], weight)] == ["open", "open"]
    assert six.propose_add(0, 6).ok and six.propose_add(0, 7).ok  # two of four places are free
    made = six.propose_add(0, 8)
    assert made.ok, made.error
    assert [fields["number"] for name, fields in made.events if name == "ChangeLapsed"] == [removal[0], weight]
    assert [standing(six, number) for number in (removal[0], weight, other)] == ["lapsed", "lapsed", "open"]
    assert six.refused(1, "approve", weight) == f"no_open_change: number {weight}"
    assert six.propose_add(0, 9).ok
    assert six.propose_add(0, 10).error == "too_many_changes: 4 proposed by this validator are open; withdraw one"


def test_a_rotation_on_its_way_does_not_make_a_change_lapse() -> None:
    """Until it is in force, a removal names a key that is in no set in force: it is about the next one."""
    five = Consortium(1, 1, 1, 1, 1)
    removal = five.done(0, "propose_remove", five.id(4))
    five.approve(removal, 1, 2)
    for number in (5, 6, 7):
        assert five.propose_add(0, number).ok
    five.done(4, "rotate_key", five.keys[8].public_key, five.possession(8, replaces=five.id(4)))
    assert five.propose_add(0, 9).error.startswith("too_many_changes")
    assert standing(five, removal) == "open"
    five.pass_window()
    assert five.propose_add(0, 9).error.startswith("too_many_changes")
    assert five.approve(removal, 3) > 0


def test_nobody_is_kept_from_proposing_by_what_others_have_left_behind() -> None:
    """A validator that rotates has four places more each time: what is in none of the present names gives way."""
    four = Consortium(1, 1, 1, 1, keys=30)
    using, fresh = 0, iter(range(4, 30))
    for _ in range(3):
        for _ in range(OPEN_EACH_MAX):
            assert four.propose_add(using, next(fresh)).ok
        new = next(fresh)
        four.chain.height += rotation_pause(4, WINDOW)
        four.done(using, "rotate_key", four.keys[new].public_key, four.possession(new, replaces=four.id(using)))
        four.pass_window()
        using = new
    for caller in (1, 2, 3, 1):
        made = four.propose_add(caller, next(fresh))
        assert made.ok, made.error
    assert len(four.read("changes")) == 4 * OPEN_EACH_MAX
    made = four.propose_add(1, next(fresh))
    assert made.ok, made.error
    left = {change[6] for change in four.read("changes")}
    assert left == {four.id(1), four.id(2), four.id(3)}


@pytest.mark.parametrize(
    ("name", "endpoint", "error"),
    [
        ("", "a:1", "name"), ("x" * 129, "a:1", "name"), ("é", "a:1", "name"), ("node 0", "a:1", "name_taken"),
        ("new", "a", "endpoint"), ("new", "a:0", "endpoint"), ("new", "a:65536", "endpoint"),
        ("new", "-a:1", "endpoint"), ("new", "a b:1", "endpoint"), ("new", "a" * 255 + ":1", "endpoint"),
    ],
)  # fmt: skip
def test_names_and_endpoints_are_checked(four: Consortium, name: str, endpoint: str, error: str) -> None:
    text = four.refused(0, "propose_add", name, four.keys[4].public_key, 1, endpoint, four.possession(4))
    assert text.startswith(error)


def test_arguments_have_types(four: Consortium) -> None:
    for arguments in (("1",), (True,), (None,), (), (1, 2)):
        assert four.call(0, "approve", *arguments).status == Status.BAD_ARGUMENTS
    assert four.call(0, "propose_remove", b"short").status == Status.BAD_ARGUMENTS
    assert four.refused(0, "propose_add", "n", b"short", 1, "a:1", b"").startswith("public_key: 5 bytes")


def test_a_set_too_large_for_a_new_view_is_refused() -> None:
    """As in genesis: a new view with certificates of all must fit a message."""
    wide = Consortium(1, 1, 1, 1)
    members = [(f"node {at}", key_of(at).public_key, 1) for at in range(46)]
    wide.chain = LocalChain(window=64, validators=members)
    wide.keys = [key_of(at) for at in range(47)]
    assert wide.propose_add(0, 46).error.startswith("set_size: with window 64 a new view of 47 validators could have")


def test_rule_set_2_knows_nothing_of_it() -> None:
    old = LocalChain(rule_set=2, validators=[("node 0", key_of(0).public_key, 1)])
    sender = address_of(Scheme.ED25519, key_of(0).public_key)
    for method, arguments in (("validators", ()), ("approve", (1,)), ("set_endpoint", ("a:1",))):
        result = old.call(SYSTEM_ADDRESS, method, *arguments, sender=sender)
        assert (result.status, result.error) == (Status.UNKNOWN_METHOD, f"unknown_method: {method}")
    assert "propose_add" not in old.read(SYSTEM_ADDRESS, "abi", SYSTEM_ADDRESS).value


def test_the_state_alone_gives_the_schedule(four: Consortium) -> None:
    """What a node does at start, also from a snapshot."""
    four.propose_add(0, 4)
    four.approve(1, 1, 2)
    four.pass_window()
    four.done(0, "propose_weight", four.id(0), 3)
    four.approve(2, 1, 2, 3)
    rows = four.chain.state.scan(SETS_PREFIX, 1_000)
    first = ValidatorSet(four.scheduled[0][1].members[:4])
    schedule = ValidatorSchedule(first)
    schedule.restore(scheduled_rows(rows))
    expected = [(0, first.digest), *((height + WINDOW + 1, made.digest) for height, made in four.scheduled)]
    assert [(height, made.digest) for height, made in schedule.epochs] == expected
    second = expected[1][0]
    assert schedule.at(second - 1).digest == first.digest and schedule.at(second).digest == expected[1][1]
    assert (schedule.base(second - 1), schedule.base(second)) == (0, second - 1)
    assert (schedule.boundary(0), schedule.boundary(10**9)) == (second - 1, None)
