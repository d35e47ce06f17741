"""A real network of four node processes per module, started once, stopped whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chain.cli.processes import NetworkProcesses
from chain.crypto import PrivateKey
from chain.node.consortium import NetworkInfo, create_network, load_account


@dataclass(frozen=True, slots=True)
class RunningNetwork:
    info: NetworkInfo
    processes: NetworkProcesses

    @property
    def urls(self) -> dict[str, str]:
        return {node.name: node.rpc_url for node in self.info.nodes}

    def account(self, name: str = "operator") -> PrivateKey:
        return load_account(self.info.account_path(name))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    folder: Path = tmp_path_factory.mktemp("network") / "net"
    info = create_network(folder, name="test", executors=2)
    processes = NetworkProcesses(info)
    asyncio.run(processes.start_all())
    try:
        yield RunningNetwork(info, processes)
    finally:
        asyncio.run(processes.stop())
