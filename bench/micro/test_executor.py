"""What execution costs: SmallBank payments, microseconds of CPU a transaction, part by part and through real processes.

`extra_info` carries microseconds a transaction; the engine's figures are the CPU of all executor processes, all in.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from chain.codec import encode, pack, tagged_digest
from chain.crypto import PrivateKey, Scheme
from chain.model.merkle import unpack_writes
from chain.model.transaction import TransactionBody, join_transaction
from chain.store.state import StateReader, StateStore
from contracts.runtime import Machine
from contracts.sources import load_source
from contracts.system.contract import TAG_CONTRACT
from contracts.system.registry import SYSTEM_ADDRESS
from executor.engine import Engine
from executor.governor import Mode
from executor.outcome import ExecutionInput
from executor.plan import make_plan
from executor.predict import SummaryPredictor
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.share import run_share
from executor.state import BaseState
from executor.transactions import ChainContext, decode_call
from executor.validate import ShareResult, validate

COUNT: Final = 1_000
ACCOUNTS: Final = 10_000
ACCOUNTS_PER_CALL: Final = 250
SENDERS: Final = 200
BLOCKS: Final = 8
CHAIN: Final = ChainContext(chain_id=bytes(32), rule_set=1, transaction_gas_max=100_000_000, deployers=())


class Payments:
    """A stored state with a SmallBank on it, and blocks of payments between accounts drawn uniformly."""

    def __init__(self, folder: Path) -> None:
        self.store = StateStore(folder / "state", chain_id=CHAIN.chain_id, genesis_state_root=bytes(32))
        self._keys = [
            PrivateKey.from_secret(Scheme.ED25519, hashlib.sha256(b"%d" % number).digest()) for number in range(SENDERS)
        ]
        self._draw = random.Random(1)
        self._nonce = 0
        self.root = bytes(32)
        self.machine = Machine(CHAIN.rule_set)
        source = load_source("library/smallbank")
        raw = self.transaction(SYSTEM_ADDRESS, "deploy", ("bank", source, pack(())), 100_000_000)
        self._base = BaseState(StateReader(self.store.path))
        self.bank = tagged_digest(TAG_CONTRACT, decode_call(raw).hash)[-20:]
        self._apply([raw])
        for first in range(0, ACCOUNTS, ACCOUNTS_PER_CALL):
            arguments = (first, ACCOUNTS_PER_CALL, 10**6, 10**6)
            self._apply([self.transaction(self.bank, "create_accounts", arguments, 100_000_000)])

    def transaction(self, target: bytes, method: str, arguments: tuple[Any, ...], gas_limit: int) -> bytes:
        self._nonce += 1
        key = self._keys[self._nonce % SENDERS]
        body = TransactionBody(
            chain_id=CHAIN.chain_id,
            scheme=int(key.scheme),
            public_key=key.public_key,
            nonce=self._nonce.to_bytes(16, "big"),
            expiry=10**6,
            target=target,
            method=method,
            arguments=pack(arguments),
            gas_limit=gas_limit,
        )
        return join_transaction(encode(body), bytes(64))

    def block(self, height: int, count: int = COUNT) -> ExecutionInput:
        draw = self._draw
        pairs = [(draw.randrange(ACCOUNTS), draw.randrange(1, ACCOUNTS)) for _ in range(count)]
        return ExecutionInput(
            height=height,
            time_ms=1,
            parent_state_root=self.root,
            transactions=tuple(
                [
                    self.transaction(self.bank, "send_payment", (source, (source + step) % ACCOUNTS, 1), 200_000)
                    for source, step in pairs
                ]
            ),
        )

    def base(self) -> BaseState:
        return BaseState(StateReader(self.store.path))

    def _apply(self, raws: list[bytes]) -> None:
        height = self.store.height() + 1
        block = ExecutionInput(height=height, time_ms=1, parent_state_root=self.root, transactions=tuple(raws))
        output, writes = execute_serially(
            block, base=self._base, machine=self.machine, chain=CHAIN, progress=NoProgress(), reason="setup"
        )
        assert output.gas_used < 100_000_000
        self.store.apply([(height, output.state_root, writes)])
        self._base.refresh()
        self.root = output.state_root


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Payments]:
    made = Payments(tmp_path_factory.mktemp("executor"))
    yield made
    made.store.close()


def _each(benchmark: Any, action: Callable[[ExecutionInput], object], payments: Payments) -> None:
    """Time `action` on blocks it has not seen before."""
    height = payments.store.height() + 1
    benchmark.pedantic(action, setup=lambda: ((payments.block(height),), {}), rounds=BLOCKS, warmup_rounds=2)
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_transaction"] = round(benchmark.stats.stats.min / COUNT * 1e6, 2)


def test_decode(benchmark: Any, payments: Payments) -> None:
    _each(benchmark, lambda block: [decode_call(raw) for raw in block.transactions], payments)


def test_predict_and_plan(benchmark: Any, payments: Payments) -> None:
    base, predictor = payments.base(), SummaryPredictor()

    def plan(block: ExecutionInput) -> None:
        calls = [decode_call(raw) for raw in block.transactions]
        table = predictor.predict(calls, base=base, height=block.height, time_ms=block.time_ms)
        make_plan(table, [1] * COUNT, 2)

    _each(benchmark, plan, payments)


def test_serial(benchmark: Any, payments: Payments) -> None:
    base = payments.base()

    def run(block: ExecutionInput) -> None:
        execute_serially(
            block, base=base, machine=payments.machine, chain=CHAIN, progress=NoProgress(), reason="benchmark"
        )

    _each(benchmark, run, payments)


def test_tracked_and_validated(benchmark: Any, payments: Payments) -> None:
    base = payments.base()

    def run(block: ExecutionInput) -> None:
        calls = [decode_call(raw) for raw in block.transactions]
        context = CHAIN.block(height=block.height, time_ms=block.time_ms)
        shares = [range(0, COUNT, 2), range(1, COUNT, 2)]
        results = [
            ShareResult(
                share,
                run_share(
                    [calls[position] for position in share], share,
                    base=base, machine=payments.machine, context=context, progress=NoProgress(),
                ),
            )
            for share in shares
        ]  # fmt: skip
        validate(calls, results, base=base, machine=payments.machine, context=context, progress=NoProgress())

    _each(benchmark, run, payments)


@pytest.mark.parametrize(("executors", "mode"), [(1, "serial"), (2, "forced")])
def test_engine(benchmark: Any, payments: Payments, executors: int, mode: Mode) -> None:
    async def run() -> tuple[int, int]:
        """(CPU of the executor processes, wall), microseconds a transaction, of the best block."""
        engine = Engine(
            state_path=payments.store.path, executors=executors, chain_id=CHAIN.chain_id, rule_set=1,
            transaction_gas_max=CHAIN.transaction_gas_max, deployers=frozenset(), mode=mode,
        )  # fmt: skip
        await engine.start()
        loop = asyncio.get_running_loop()
        best_cpu = best_wall = 10**12
        for _ in range(BLOCKS):
            block = payments.block(engine.height + 1)
            start = loop.time()
            output = await engine.execute(block)
            best_wall = min(best_wall, int((loop.time() - start) * 1e6))
            best_cpu = min(best_cpu, output.stats.cpu_us)
            payments.store.apply([(output.height, output.state_root, unpack_writes(output.writes))])
            payments.root = output.state_root
            engine.stored(output.height)
        await engine.stop()
        return best_cpu, best_wall

    cpu_us, wall_us = benchmark.pedantic(lambda: asyncio.run(run()), rounds=1)
    benchmark.extra_info["cpu_us_per_transaction"] = round(cpu_us / COUNT, 2)
    benchmark.extra_info["wall_us_per_transaction"] = round(wall_us / COUNT, 2)
