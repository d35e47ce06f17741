"""The production line of a block: pack, consensus, execute, store, each a stage with the same interface (`Stage`).

Their order is that of `chain.pipeline.spans.STAGES`; the checkpoint is consensus' second half, not a task of its own.
"""

from chain.pipeline.execute import ExecuteStage
from chain.pipeline.order import ConsensusStage
from chain.pipeline.pack import PackStage
from chain.pipeline.stage import Stage
from chain.pipeline.store import StoreStage

__all__ = ["ConsensusStage", "ExecuteStage", "PackStage", "Stage", "StoreStage"]
