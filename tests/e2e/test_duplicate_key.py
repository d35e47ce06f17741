"""A node's folder is copied to another machine and started there too: the second process ends and says why."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningNetwork
from tests.integration.gateways import free_port

DEADLINE_S = 60.0


@pytest.mark.slow
def test_a_second_process_with_a_validators_key_stops_with_exit_code_4(
    network: RunningNetwork, tmp_path: Path
) -> None:
    """Its id is the highest, so nobody dials it and it must knock; the first process goes on."""
    first = max(network.info.nodes, key=lambda node: node.validator)
    copy = tmp_path / "copy"
    shutil.copytree(first.folder, copy, ignore=shutil.ignore_patterns("data", "*.log", "*.pid"))
    config = copy / first.config_path.name
    text = config.read_text()
    for port in (first.rpc_port, first.gateway_port):
        text, count = re.subn(rf"(?m)^port = {port}$", f"port = {free_port()}", text)
        assert count == 1
    config.write_text(text)
    command = [sys.executable, "-m", "chain.cli.main", "node", "run", "--config", str(config)]
    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said, _ = second.communicate(timeout=DEADLINE_S)
    finally:
        second.kill()
        second.wait()
    assert second.returncode == 4, said[-2_000:]
    assert "another process with this validator's key is running at" in said
    assert f"{first.host}:" in said
    assert network.processes.running(first.name) is not None
