"""What `headrace block trace` prints: a block executed again, or the inside of one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from chain.cli.blocks import busy_text, shards_text
from chain.cli.common import table, text_of
from chain.node.replay import BlockReplay, Check, Difference, StoredTrace
from executor.trace_names import text_of as shown
from executor.trace_result import Access, CallTrace, SourceGas, TransactionTrace

HASH_DIGITS: Final = 16
VALUE_CHARS_MAX: Final = 100
EQUAL: Final = "="


def replay_document(replay: BlockReplay) -> dict[str, Any]:
    """The JSON form of a block executed again."""
    return {
        "height": replay.height,
        "transactions": replay.transactions,
        "executors": replay.executors,
        "agrees": replay.agrees,
        "parallel_equals_serial": replay.parallel_equals_serial,
        "checks": [
            {
                "what": check.what,
                "agrees": check.agrees,
                "stored": check.stored,
                "serial": check.serial,
                "parallel": check.parallel,
            }
            for check in replay.checks
        ],
        "differences": [
            {
                "what": difference.what,
                "position": difference.position,
                "hash": difference.transaction_hash,
                "key": difference.key,
                "stored": difference.stored,
                "serial": difference.serial,
                "parallel": difference.parallel,
            }
            for difference in replay.differences
        ],
        "execution": {
            way: {name: getattr(stats, name) for name in stats.__struct_fields__}
            for way, stats in (("serial", replay.serial), ("parallel", replay.parallel))
        },
    }


def replay_lines(replay: BlockReplay) -> list[str]:
    """The same for people."""
    parallel = f"{replay.executors} executors"
    lines = [f"block {replay.height}, {replay.transactions} transactions, executed again", ""]
    lines += table([("", "stored", "serially", parallel), *map(_check_row, replay.checks)])
    lines.append("")
    lines += table([("", "serially", parallel), *_figures(replay)])
    lines.append("")
    for difference in replay.differences:
        lines += _difference_lines(difference)
    return [*lines, _verdict(replay)]


def _check_row(check: Check) -> tuple[str, ...]:
    stored = _value(check.stored)
    again = [EQUAL if value == check.stored else _value(value) for value in (check.serial, check.parallel)]
    return (check.what.replace("_", " "), stored, *again)


def _value(value: bytes | int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"0x{value.hex()[:HASH_DIGITS]}..."


def _figures(replay: BlockReplay) -> list[tuple[str, ...]]:
    serial, parallel = replay.serial, replay.parallel
    rows = [
        ("wall ms", f"{serial.wall_us / 1_000:.1f}", f"{parallel.wall_us / 1_000:.1f}"),
        ("executors busy ms", busy_text(serial.busy_us), busy_text(parallel.busy_us)),
        ("CPU ms", f"{serial.cpu_us / 1_000:.1f}", f"{parallel.cpu_us / 1_000:.1f}"),
    ]
    if parallel.mode != "parallel":
        return [*rows, ("not shared out", "", parallel.reason)]
    return [
        *rows,
        ("plan, validate ms", "-", f"{parallel.plan_us / 1_000:.1f}, {parallel.validate_us / 1_000:.1f}"),
        ("shards", "-", shards_text(parallel.shards, parallel.shard_sizes)),
        ("conflicts", "-", f"{parallel.conflicts_predicted} predicted, {parallel.conflicts_actual} met"),
        ("run twice", "-", str(parallel.reexecuted)),
        *([("executors lost", "-", str(parallel.executors_lost))] if parallel.executors_lost else []),
    ]


def _difference_lines(difference: Difference) -> list[str]:
    where = "write set"
    if difference.transaction_hash is not None:
        where = f"transaction {difference.position} 0x{difference.transaction_hash.hex()}"
    values = {"stored": difference.stored, "serial": difference.serial, "parallel": difference.parallel}
    return [
        f"first difference, {where}: {difference.what}",
        *(f"  {name:<8}  {'-' if value is None else _cut(text_of(value))}" for name, value in values.items()),
    ]


def _verdict(replay: BlockReplay) -> str:
    if replay.agrees:
        return "AGREES: serial and parallel execution come to what is stored"
    what = ", ".join(check.what.replace("_", " ") for check in replay.checks if not check.agrees)
    if not replay.parallel_equals_serial:
        return f"DIFFERS in {what}: parallel execution is not equal to serial. That is a bug of this program"
    return f"DIFFERS in {what}: what is stored is damaged, or was made by other code than this"


# --- one transaction ---


def trace_document(traced: StoredTrace) -> dict[str, Any]:
    """The JSON form of a traced transaction."""
    return {"agrees": traced.agrees, **traced.trace.document()}


def trace_lines(traced: StoredTrace) -> list[str]:
    """The same for people."""
    trace = traced.trace
    outcome = "ok" if trace.status == 0 else f"failed: {trace.error} (status {trace.status})"
    lines = [
        f"transaction 0x{trace.transaction_hash.hex()}",
        f"block {trace.height}, position {trace.position}, sender 0x{trace.sender.hex()}",
        f"{outcome}, gas {trace.gas_used:,} of {trace.gas_limit:,}",
        "",
        *_call_lines(trace.call, 0),
        "",
    ]
    for source in trace.sources:
        lines += [*_source_lines(source), ""]
    lines.append(_gas_line(trace))
    verdict = "AGREES: the receipt is the stored one" if traced.agrees else "DIFFERS: another receipt is stored"
    return [*lines, "", verdict]


def _call_lines(call: CallTrace, depth: int) -> Iterator[str]:
    indent = "  " * depth
    name = call.contract_name or f"0x{call.contract.hex()}"
    yield f"{indent}{name}.{call.method}{_arguments(call.arguments)}  gas {call.gas_used:,}"
    inner = indent + "  "
    for step in call.steps:
        if isinstance(step, CallTrace):
            yield from _call_lines(step, depth + 1)
        elif isinstance(step, Access):
            yield inner + _access(step, call)
        else:
            yield f"{inner}event   {step.name} {_cut(shown(step.fields))}"
    if call.error:
        yield f"{inner}FAILED  {call.error}: nothing that it wrote, added or emitted stays"
    elif call.result is not None:
        yield f"{inner}result  {_cut(shown(call.result))}"


def _arguments(arguments: Any) -> str:
    if isinstance(arguments, dict):
        return f"({', '.join(f'{name}={_cut(shown(value))}' for name, value in arguments.items())})"
    return f"({_cut(shown(arguments))})" if arguments else "()"


def _access(step: Access, call: CallTrace) -> str:
    name = step.name if step.contract == call.contract else f"system {step.name}"
    if step.kind == "read" and step.variable == "contracts" and isinstance(step.value, dict):
        text = f"read    record of {shown(step.value['name'])}, version {shown(step.value['version'])}"
    elif step.kind == "scan":
        text = f"{step.kind:<6}  {name}: {shown(step.value)} entries"
    elif step.kind == "delete":
        text = f"{step.kind:<6}  {name}"
    elif step.kind == "add":
        text = f"{step.kind:<6}  {name} += {shown(step.value)}"
    else:
        text = f"{step.kind:<6}  {name} = {'(nothing)' if step.value is None else _cut(shown(step.value))}"
    if step.own:
        return f"{text}  (its own write)"
    if step.writers:
        many = "transaction" if len(step.writers) == 1 else "transactions"
        return f"{text}  (written by {many} {', '.join(map(str, step.writers))} of this block)"
    return text


def _source_lines(source: SourceGas) -> Iterator[str]:
    yield f"gas by line, {source.contract_name} 0x{source.contract.hex()}"
    width = max(len(f"{line.gas:,}") for line in source.lines)
    for line in source.lines:
        times = f"x{line.times}" if line.times > 1 else ""
        yield f"{line.gas:>{width + 2},}  {times:>6}  {line.line:>5}  {line.text}"


def _gas_line(trace: TransactionTrace) -> str:
    of_lines = sum(source.gas for source in trace.sources)
    outside = "the transaction itself, finding code, arguments, results"
    return f"gas {trace.gas_used:,}: {of_lines:,} in lines of source, {trace.call_gas:,} outside ({outside})"


def _cut(text: str) -> str:
    """On one line of bearable length."""
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."
