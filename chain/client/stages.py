"""How the pipeline's stages worked on a run of heights, from what a node reports."""

from __future__ import annotations

from typing import Final

from chain.client.client import Client
from chain.pipeline.spans import HeightSpans, StageSummary, summarize
from chain.types import Height

HEIGHTS_PER_CALL: Final = 500


async def stage_summary(client: Client, first: int, last: int) -> StageSummary:
    """Of the heights `first..last` whose times the node still keeps."""
    entries: list[HeightSpans] = []
    while first <= last:
        heights = (await client.rpc("get_stages", from_height=first, limit=HEIGHTS_PER_CALL))["heights"]
        if not heights:
            break
        for item in heights:
            spans = {span["stage"]: (int(span["start_us"]), int(span["end_us"])) for span in item["spans"]}
            entries.append(HeightSpans(Height(int(item["height"])), int(item["transactions"]), {}, spans))
        first = int(heights[-1]["height"]) + 1
    return summarize([entry for entry in entries if entry.height <= last])
