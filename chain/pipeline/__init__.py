"""The production line of a block: pack, consensus, execute, store, each a stage with the same interface."""

from typing import Final

from chain.pipeline.execute import ExecuteStage
from chain.pipeline.order import ConsensusStage
from chain.pipeline.pack import PackStage
from chain.pipeline.store import StoreStage

# The order of the line. Checkpointing is consensus' second half: its votes go through the same core.
LINE: Final = (PackStage, ConsensusStage, ExecuteStage, StoreStage)

__all__ = ["LINE", "ConsensusStage", "ExecuteStage", "PackStage", "StoreStage"]
