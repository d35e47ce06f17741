"""What a deployer must do to bring up a contract suite, as data.

A `Suite` is followed in order: every `Deployment` (a deploy transaction of the suite's admin), then every wiring
`Call`. Arguments may hold placeholders: `Party` (the address of an account, by role name) and `Deployed` (the address
of a contract of the same suite deployed earlier). `resolve` puts the addresses in. Demo, benchmarks and tests deploy
the suites through this one description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from chain.codec import Value
from chain.errors import BadInput

# Gas limits that are enough: the largest contract needs 3 million, a full report of 128 items 0.2 million.
DEPLOYMENT_GAS_LIMIT: Final = 10_000_000
CALL_GAS_LIMIT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Party:
    """Stands for the 20-byte address of the account that plays a role, for instance `Party("operator")`."""

    role: str


@dataclass(frozen=True, slots=True)
class Deployed:
    """Stands for the 20-byte address of a deployed contract, for instance `Deployed("credit.registry")`."""

    name: str


Argument: TypeAlias = "Value | Party | Deployed | tuple[Argument, ...]"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One contract: its unique name on the chain, its source file and the arguments of `init`."""

    name: str
    source: Path
    arguments: tuple[Argument, ...] = ()

    def source_text(self) -> str:
        return self.source.read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Call:
    """A transaction: signed by the account of `signer` (a role of the suite), sent to the contract named `contract`."""

    signer: str
    contract: str
    method: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    """Contracts in deployment order, then the calls that make them known to each other, in order.

    `parties` are the roles whose addresses `resolve` needs; `admin` (one of them) signs the deployments.
    """

    name: str
    parties: tuple[str, ...]
    admin: str
    deployments: tuple[Deployment, ...]
    wiring: tuple[Call, ...]

    def deployment(self, name: str) -> Deployment:
        """Raises BadInput if the suite has no contract of that name."""
        for deployment in self.deployments:
            if deployment.name == name:
                return deployment
        raise BadInput("unknown_contract", f"suite {self.name} has no contract {name!r}")


def resolve(
    arguments: tuple[Argument, ...], parties: Mapping[str, bytes], contracts: Mapping[str, bytes]
) -> tuple[Value, ...]:
    """The arguments with every placeholder replaced by its address.

    Raises:
        BadInput: a role or a contract without an address; the text names it.
    """
    return tuple(_resolve_one(argument, parties, contracts) for argument in arguments)


def _resolve_one(argument: Argument, parties: Mapping[str, bytes], contracts: Mapping[str, bytes]) -> Value:
    if isinstance(argument, Party):
        if argument.role not in parties:
            raise BadInput("unknown_party", f"no address for the role {argument.role!r}")
        return parties[argument.role]
    if isinstance(argument, Deployed):
        if argument.name not in contracts:
            raise BadInput("unknown_contract", f"contract {argument.name!r} is not deployed yet")
        return contracts[argument.name]
    if isinstance(argument, tuple):
        return resolve(argument, parties, contracts)
    return argument
