"""What the demonstration found: figures read from the nodes, and the checks that decide its exit code."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from chain.cli.demo.driver import Tally
from chain.client import Client
from chain.pipeline.spans import STAGES, StageSummary

PERCENTILES: Final = {"p50": 50, "p90": 90, "p99": 99, "max": 100}


@dataclass(slots=True)
class Checks:
    """Each promise by name and whether it held, with what was seen."""

    results: dict[str, tuple[bool, str]] = field(default_factory=dict)

    def add(self, name: str, held: bool, seen: str) -> None:
        self.results[name] = (held, seen)

    @property
    def all_held(self) -> bool:
        return all(held for held, _ in self.results.values())


async def compare_nodes(clients: Mapping[str, Client], height: int) -> tuple[bool, str]:
    """Whether all nodes hold equal block hashes and state roots at every height."""
    for at in range(height + 1):
        headers = await asyncio.gather(*[client.rpc("get_header", height=at) for client in clients.values()])
        seen = {(header["hash"], header["state_root"]) for header in headers}
        if len(seen) != 1:
            return False, f"they differ at height {at}"
    return True, f"equal block hashes and state roots on {len(clients)} nodes at heights 0..{height}"


async def check_offline(genesis_path: Path, proof: Mapping[str, Any], folder: Path, name: str) -> tuple[bool, str]:
    """Writes the proof beside the network and checks it in a process that imports nothing of the node."""
    proof_path = folder / f"{name}.json"
    proof_path.write_text(json.dumps(proof, indent=1) + "\n", encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "chain.offline", str(genesis_path), str(proof_path),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    lines = output.decode("utf-8", "replace").strip().splitlines() or [""]
    return process.returncode == 0, f"{proof_path.name}: {lines[0]}"


def document(
    tally: Tally, stages: StageSummary, checks: Checks, *, blocks: int, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The summary for machines."""
    latencies = tally.latencies_ms or [0.0]
    return {
        "ok": checks.all_held,
        "blocks": blocks,
        "transactions": tally.certified,
        "accepted": dict(sorted(tally.accepted.items())),
        "refused": dict(sorted(tally.refused.items())),
        "reverted": dict(sorted(tally.reverted.items())),
        "throughput_tps": round(tally.certified / tally.busy_s, 1) if tally.busy_s else 0.0,
        "latency_ms": {
            name: round(float(np.percentile(latencies, share, method="inverted_cdf")), 1)
            for name, share in PERCENTILES.items()
        },
        "stage_mean_ms": {stage: round(stages.mean_ms[stage], 2) for stage in STAGES if stage in stages.mean_ms},
        "stage_overlap": round(stages.overlap, 3),
        "resent": tally.resent,
        "unexpected": tally.unexpected[:20],
        "checks": {name: {"held": held, "seen": seen} for name, (held, seen) in checks.results.items()},
        **extra,
    }


def show(console: Console, result: Mapping[str, Any]) -> None:
    """The summary for people."""
    figures = Table(show_header=False, box=None, padding=(0, 2))
    latency = result["latency_ms"]
    figures.add_row("blocks", f"{result['blocks']:,}")
    figures.add_row("transactions certified", f"{result['transactions']:,}")
    figures.add_row("throughput", f"{result['throughput_tps']:,} transactions a second while any was under way")
    figures.add_row(
        "latency", f"p50 {latency['p50']} ms, p90 {latency['p90']} ms, p99 {latency['p99']} ms, max {latency['max']} ms"
    )
    for stage, mean in result["stage_mean_ms"].items():
        figures.add_row(f"stage {stage}", f"{mean} ms a block on average")
    figures.add_row("stage overlap", f"{result['stage_overlap']} stages at work on average (1.0: one after the other)")
    console.print("\n[bold]What happened[/bold]")
    console.print(figures)
    answers = Table("answer", "transactions", title="Accepted and refused, by reason", title_justify="left")
    for suite, count in result["accepted"].items():
        answers.add_row(f"accepted ({suite})", f"{count:,}")
    for reason, count in result["refused"].items():
        answers.add_row(f"refused: {reason}", f"{count:,}")
    for reason, count in result["reverted"].items():
        answers.add_row(f"reverted: {reason}", f"{count:,}")
    console.print(answers)
    console.print("[bold]What was checked[/bold]")
    for name, check in result["checks"].items():
        mark = "[green]held[/green]" if check["held"] else "[bold red]BROKEN[/bold red]"
        console.print(f"  {mark}  {name}: {check['seen']}", highlight=False)
    for problem in result["unexpected"]:
        console.print(f"  [red]unexpected[/red]  {problem}", highlight=False)
