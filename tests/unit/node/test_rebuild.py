"""`rebuild_state`: what the node goes on from is what it would have had."""

from __future__ import annotations

from pathlib import Path

from chain.model.block import SNAPSHOT_LAG
from chain.node.archive import open_node_store
from chain.node.rebuild import rebuild_state
from tests.unit.sync.chain import INTERVAL, serve

S = 2 * INTERVAL


def test_the_snapshot_that_a_header_still_waits_for_is_taken_again_from_the_new_state(tmp_path: Path) -> None:
    """Without it the header could not be made, with the old file it would say what the wrong state led to."""
    served = serve(tmp_path, blocks=S + 5)
    assert S + 5 < S + SNAPSHOT_LAG
    genesis, expected = served.genesis, served.pairs(S)
    committed = served.store.snapshots.head(INTERVAL)
    served.store.snapshots.write(S, iter([(b"wrong", b"state")]))
    served.close()
    assert rebuild_state(tmp_path, genesis).height == S + 5
    store = open_node_store(tmp_path, genesis)
    try:
        assert store.snapshots.heights() == (INTERVAL,)
        assert store.snapshots.head(INTERVAL) == committed
        assert store.state.snapshot_height == S
        with store.state.snapshot(S) as pairs:
            assert list(pairs) == expected
    finally:
        store.close()
