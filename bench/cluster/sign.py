"""A signing process: `python -m bench.cluster.sign` writes one part of transactions, long before they are sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from bench.cluster.children import read_line, say
from bench.cluster.parts import write_part
from bench.workloads import WORKLOADS
from bench.workloads import account as account_of
from chain.crypto import PrivateKey, Scheme
from chain.model.signing import sign_transaction
from chain.model.transaction import Transaction

SIGNERS: Final = 64  # accounts that send in turn


class SignJob(msgspec.Struct, frozen=True, kw_only=True):
    """Every `step`-th of the workload's calls from number `first` on, `count` of them."""

    path: str
    chain_id: str
    contract: str
    workload: str
    seed: int
    expiry: int
    first: int
    step: int
    count: int


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """How many, and the CPU seconds it took."""

    count: int
    cpu_s: float


def account(seed: int, at: int) -> PrivateKey:
    """The account that signs the transactions numbered `at`, `at` + `SIGNERS`, and so on."""
    return PrivateKey.from_secret(Scheme.ED25519, (seed * SIGNERS + at % SIGNERS + 1).to_bytes(32, "big"))


def signed(job: SignJob) -> Iterator[Transaction]:
    """The job's transactions, signed by the account a call names, else by several in turn."""
    keys = [account(job.seed, at) for at in range(SIGNERS)]
    calls = WORKLOADS[job.workload]().calls(job.seed)
    chain_id, target = bytes.fromhex(job.chain_id), bytes.fromhex(job.contract)
    last = job.first + job.step * job.count
    for number, call in enumerate(islice(calls, job.first, last, job.step)):
        yield sign_transaction(
            keys[(job.first + number * job.step) % SIGNERS] if call.signer is None else account_of(call.signer),
            chain_id=chain_id,
            target=target,
            method=call.method,
            arguments=call.arguments,
            expiry=job.expiry,
            gas_limit=call.gas_limit,
        )


def main() -> None:
    job = read_line(SignJob)
    if job is not None:
        count = write_part(Path(job.path), signed(job))
        say(Signed(count=count, cpu_s=time.process_time()))


if __name__ == "__main__":
    main()
