"""What a node writes down when its execution differs from a certificate, before anything is lost."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from chain.model.block import Header
from chain.pipeline.execute import ExecutedBlock
from consensus.effects import Diverged

REPORT: Final = "divergence.json"


def write_divergence(data: Path, effect: Diverged, executed: ExecutedBlock | None) -> Path:
    """Writes `divergence.json` beside the databases: the two header hashes and, where this node executed the height,
    its own header, the hash and receipt of each transaction and the write set, to compare with a healthy node's block.
    """
    report: dict[str, Any] = {
        "height": effect.height,
        "reason": effect.reason,
        "own_header_hash": effect.own.hex(),
        "certified_header_hash": effect.certified.hex() if effect.certified else None,
        "noticed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if executed is not None:
        header = executed.header
        fields = {name: getattr(header, name) for name in Header.__struct_fields__}
        report["own_header"] = {
            name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()
        }
        report["transactions"] = [
            {"hash": transaction_hash.hex(), "receipt": receipt.hex()}
            for transaction_hash, receipt in zip(executed.hashes, executed.output.receipts, strict=True)
        ]
        report["writes"] = executed.output.writes.hex()
    path = data / REPORT
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return path
