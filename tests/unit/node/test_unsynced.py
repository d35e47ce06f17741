"""A data folder opened without waiting for the disk, and opened properly again."""

from __future__ import annotations

from pathlib import Path

from chain.model.genesis import Genesis
from chain.node.archive import open_node_store
from chain.node.consortium import create_network, load_network_genesis, some_nodes
from chain.store import Store


def environments_synced(store: Store) -> list[bool]:
    return [part.environment.is_synced() for part in (store.blocks, store.state, store.journal)]


def genesis_of(folder: Path) -> Genesis:
    return load_network_genesis(create_network(folder, name="test", nodes=some_nodes(1)))


def test_no_commit_is_synced_only_if_that_was_asked_for(tmp_path: Path) -> None:
    genesis = genesis_of(tmp_path / "net")
    for synced in (True, False, True):
        store = open_node_store(tmp_path / "data", genesis, synced=synced)
        other = open_node_store(tmp_path / "other", genesis)
        assert environments_synced(store) == [synced] * 3
        assert environments_synced(other) == [True] * 3
        other.close()
        store.close()
