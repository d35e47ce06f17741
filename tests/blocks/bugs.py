"""Bugs to plant in execution, each with what must notice it (`tests/blocks/planted.py`)."""

from __future__ import annotations

from typing import Final, NamedTuple

BLOCKS: Final = "blocks --seed 0 --blocks 600"
STATE: Final = "executor/state.py"
VALIDATE: Final = "executor/validate.py"
LEAD: Final = "executor/parallel.py"
WORKER: Final = "executor/worker.py"
MACHINE: Final = "contracts/runtime/machine.py"
FRAME: Final = "contracts/runtime/frame.py"


class Bug(NamedTuple):
    """In `file`, `new` instead of `old`, which stands there exactly once; `killer` fails then.

    A killer is a test, or "blocks" and the options of `python -m tests.blocks`.
    """

    name: str
    file: str
    old: str
    new: str
    killer: str = BLOCKS


NOTE: Final = "        self._note(key)\n"

TRACKING: Final = (
    Bug(
        "a key that an earlier transaction of the share read is not recorded again",
        STATE,
        NOTE,
        "        if key not in self.read_keys:\n            self._note(key)\n",
    ),
    Bug(
        "reads of missing keys are not recorded",
        STATE,
        NOTE,
        "        if key in self._values or self._base_get(key) is not None:\n            self._note(key)\n",
    ),
    Bug(
        "reads of keys that the share itself wrote are not recorded",
        STATE,
        NOTE,
        "        if key not in self._values:\n            self._note(key)\n",
    ),
    Bug(
        "reads of contract records (code, lifecycle, admin) are not recorded",
        STATE,
        NOTE,
        "        if b'contracts\\0' not in key:\n            self._note(key)\n",
    ),
    Bug(
        "reads of names are not recorded",
        STATE,
        NOTE,
        "        if b'names\\0' not in key:\n            self._note(key)\n",
    ),
    Bug(
        "scans are not recorded",
        STATE,
        "        self.scans.append((len(self.read_marks), prefix))\n",
        "",
    ),
    Bug(
        "an add looks at the base state beneath what its own share wrote",
        STATE,
        "        value = self._values.get(key, _MISSING)\n"
        "        return self._base_get(key) if value is _MISSING else value\n",
        "        return self._base_get(key)\n",
    ),
    Bug(
        "what adds observed is not recorded",
        STATE,
        "key, delta, max(low, -_WORD), min(high, _WORD)))\n",
        "key, delta, -_WORD, _WORD))\n",
    ),
)

BASE_STATE: Final = (
    Bug(
        "an overlay is dropped one block early",
        STATE,
        "self._layers[0][0] <= snapshot:",
        "self._layers[0][0] <= snapshot + 1:",
    ),
    Bug(
        "values cached before a newer snapshot are kept",
        STATE,
        "            self._forget_cache()\n            self.height = snapshot\n",
        "            self.height = snapshot\n",
    ),
    Bug(
        "values cached before a block are kept after it",
        STATE,
        "        self._cache.update(writes)\n",
        "",
    ),
    Bug(
        "a discard keeps the cached values",
        STATE,
        "                self._cache.pop(key, None)\n",
        "                pass\n",
    ),
    Bug(
        "a discard keeps what scans have merged",
        STATE,
        "        self.height = height - 1\n        self._changed()\n",
        "        self.height = height - 1\n",
        "tests/scenarios/test_parallel_execution.py::test_a_scan_sees_a_discarded_block",
    ),
    Bug(
        "a discard keeps the layer of the discarded block",
        STATE,
        "            _, writes = self._layers.pop()\n            for key in writes:\n",
        "            _, writes = self._layers.pop()\n            self._layers.appendleft((height - 1, writes))\n"
        "            break\n        for _, writes in ():\n            for key in writes:\n",
    ),
    Bug(
        "a second run's scan does not see keys that are new in the block",
        STATE,
        "            for key in writes:\n                if key not in self._entries:\n"
        "                    self._index.add(key)\n",
        "            pass\n",
    ),
)

VALIDATION: Final = (
    Bug(
        "the undisturbed check ignores reads",
        VALIDATE,
        "if not writer.final.keys().isdisjoint(reads) or _any_under(prefixes, writer.outcome.write_keys):",
        "if _any_under(prefixes, writer.outcome.write_keys):",
    ),
    Bug(
        "the undisturbed check ignores scans",
        VALIDATE,
        "if not writer.final.keys().isdisjoint(reads) or _any_under(prefixes, writer.outcome.write_keys):",
        "if not writer.final.keys().isdisjoint(reads):",
    ),
    Bug(
        "the undisturbed check ignores deletes",
        VALIDATE,
        "if not writer.final.keys().isdisjoint(reads) or",
        "if not {k for k, v in writer.final.items() if v is not None}.isdisjoint(reads) or",
    ),
    Bug(
        "the undisturbed check sums a key that was also set",
        VALIDATE,
        "    if written != added:\n        return None\n",
        "",
    ),
    Bug(
        "the undisturbed check ignores upper bounds of adds",
        VALIDATE,
        "value + down < low or value + up > high",
        "value + down < low",
    ),
    Bug(
        "the undisturbed check ignores lower bounds of adds",
        VALIDATE,
        "value + down < low or value + up > high",
        "value + up > high",
    ),
    Bug(
        "of adds of several executors one share's sum is taken",
        VALIDATE,
        "{**_last_writes(shared, results), **sums}",
        "_last_writes(shared, results)",
    ),
    Bug(
        "a write of several executors keeps one executor's leaf hash",
        VALIDATE,
        "            pieces[key] = (leaf, leaf_hash(leaf))\n",
        "            pieces[key] = (leaf, pieces[key][1])\n",
    ),
    Bug(
        "of two writers that nobody read the earlier one wins",
        VALIDATE,
        "(key not in entries or entries[key][0] <= position)",
        "(key not in entries or entries[key][0] > position)",
    ),
    Bug(
        "writes of several executors are not sorted",
        VALIDATE,
        "    order = sorted(range(len(keys)), key=keys.__getitem__)",
        "    order = list(range(len(keys)))",
    ),
    Bug(
        "a read from beneath the block always holds",
        VALIDATE,
        "            if latest.get(key, POSITION_NONE) != known.get(key, POSITION_NONE):\n",
        "            if key in known and latest.get(key, POSITION_NONE) != known.get(key, POSITION_NONE):\n",
    ),
    Bug(
        "scans always hold",
        VALIDATE,
        "!= seen.seen_under(prefix):\n                return False\n",
        "!= seen.seen_under(prefix):\n                pass\n",
    ),
    Bug(
        "an add's bounds are not looked at again at its position",
        VALIDATE,
        "        return all(add.holds(self.state.get(key)) for key, add in seen.adds.get(seen.index, {}).items())\n",
        "        return True\n",
    ),
    Bug(
        "an add's value is taken from the share instead of computed anew",
        VALIDATE,
        "                if add.delta is not None:\n                    writes[key] =",
        "                if add.delta is None:\n                    writes[key] =",
    ),
    Bug(
        "the version of a corrected value does not change",
        VALIDATE,
        "            self._versions[key] = position if same else _RERUN - position",
        "            self._versions[key] = position",
    ),
    Bug(
        "a second run's gas is not used",
        VALIDATE,
        "        gas_used += outcome.gas_used\n",
        "        gas_used += outcome.gas_used if found is None else found.outcome.gas[found.index]\n",
    ),
    Bug(
        "what the first run wrote stays beside what the second one wrote",
        VALIDATE,
        "        self.state.commit(writes)\n        for key, value in writes.items():\n            same",
        "        self.state.commit({**first_run, **writes})\n"
        "        for key, value in writes.items():\n            same",
    ),
)

SHARING: Final = (
    Bug(
        "an executor that missed a block is not told what it did",
        LEAD,
        "for overlay in self._overlays if overlay.height > attached.height]",
        "for overlay in self._overlays if overlay.height > attached.height + 1]",
    ),
    Bug(
        "what an executor is told beside its own writes lacks what others wrote as well",
        VALIDATE,
        "for leaf in other.outcome.leaves] + leaves)",
        "for leaf in other.outcome.leaves])",
    ),
    Bug(
        "what an executor is told beside its own writes is kept over a discard",
        LEAD,
        "            attached.rest = None\n",
        "",
    ),
    Bug(
        "an executor's own writes are not kept for the next block",
        "executor/share.py",
        "    base.last_share = (number, final)\n",
        "    base.last_share = (number, {})\n",
    ),
    Bug(
        "executors are not told of a discard",
        LEAD,
        "            attached.height = min(attached.height, height - 1)\n",
        "            pass\n",
    ),
    Bug(
        "an executor keeps what was discarded",
        WORKER,
        "    base.discard(max(request.told, base.snapshot_height) + 1)\n",
        "",
    ),
    Bug(
        "an executor does not move to the newest snapshot",
        WORKER,
        "    base.refresh()\n    for overlay in request.overlays:\n",
        "    for overlay in request.overlays:\n",
    ),
    Bug(
        "an answer to another question is taken",
        LEAD,
        "if answer.number == sent.number and is_well_formed",
        "if is_well_formed",
    ),
    Bug(
        "answers whose parts do not fit together are taken",
        LEAD,
        "if answer.number == sent.number and is_well_formed(answer, sent.positions):",
        "if answer.number == sent.number:",
    ),
    Bug(
        "the plan leaves a transaction out",
        "executor/plan.py",
        "    for transaction, shard in enumerate(shard_of):\n        shares[owners[shard]].append(transaction)\n",
        "    for transaction, shard in enumerate(shard_of):\n"
        "        if transaction != 1:\n            shares[owners[shard]].append(transaction)\n",
    ),
    Bug(
        "the plan has a transaction twice",
        "executor/plan.py",
        "    for transaction, shard in enumerate(shard_of):\n        shares[owners[shard]].append(transaction)\n",
        "    for transaction, shard in enumerate(shard_of):\n        shares[owners[shard]].append(transaction)\n"
        "        if transaction == 1:\n            shares[0].append(transaction)\n",
    ),
    Bug(
        "the serial executor forgets adds",
        "executor/serial.py",
        "settle(outcome, state.get) if outcome.adds else outcome.writes",
        "outcome.writes",
    ),
)

CONTRACTS: Final = (
    Bug(
        "a read after an add is not recorded",
        FRAME,
        "        raw = pending.raw\n        if isinstance(raw, Missing):\n            try:\n"
        "                raw = self.context.state.get(key)\n",
        "        raw = pending.raw\n        if isinstance(raw, Missing):\n            try:\n"
        "                raw = self.context.state.peek(key)\n",
    ),
    Bug(
        "an add that fails decides on a value that is not recorded",
        FRAME,
        "                return\n            raw = self.fetch(key)\n",
        "                return\n            raw = self.context.state.peek(key)\n",
    ),
    Bug(
        "a second add to a key observes nothing",
        FRAME,
        "Pending(delta, max(low, minimum - delta), min(high, maximum - delta), base, raw)",
        "Pending(delta, low, high, base, raw)",
    ),
    Bug(
        "a failed transaction forgets what its adds observed",
        MACHINE,
        "        adds = context.observed(failed=True)\n",
        "        adds = {}\n",
    ),
    Bug(
        "a failed transaction's adds stay",
        MACHINE,
        "        adds = context.observed(failed=True)\n",
        "        adds = context.observed(failed=False)\n",
    ),
    Bug(
        "a failed transaction's events stay",
        MACHINE,
        '        return Outcome(int(status), gas_limit - frame.gas, b"", reason, adds=adds)\n',
        '        return Outcome(int(status), gas_limit - frame.gas, b"", reason, tuple(context.events), adds=adds)\n',
    ),
    Bug(
        "a failed call's writes stay",
        MACHINE,
        "        context.rollback(journal_length, events_length)\n",
        "        del context.events[events_length:]\n",
        "tests/scenarios/test_parallel_execution.py::test_a_revert_rolls_back_only_part_of_nested_state",
    ),
    Bug(
        "a failed call's adds stay",
        FRAME,
        "                self.adds[key] = self.adds[key]._replace(delta=old.delta)\n",
        "                pass\n",
        "tests/scenarios/test_parallel_execution.py::test_an_add_of_a_failed_call_is_taken_back",
    ),
    Bug(
        "code is kept by address",
        MACHINE,
        "        found = self._instances.get((address, raw))\n        if found is None:\n",
        "        found = next((known for (at, _), known in self._instances._entries.items() if at == address), None)\n"
        "        if found is None:\n",
        "tests/scenarios/test_parallel_execution.py::test_code_is_not_tracked",
    ),
)

BUGS: Final = (*TRACKING, *BASE_STATE, *VALIDATION, *SHARING, *CONTRACTS)
