"""What a node writes down when it no longer agrees with a quorum, before anything is lost."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from chain.errors import StoreError
from chain.model.block import Header
from chain.pipeline.execute import ExecutedBlock
from consensus.effects import Diverged

REPORT: Final = "divergence.json"


def write_divergence(data: Path, effect: Diverged, executed: ExecutedBlock | None) -> Path:
    """Writes `divergence.json` beside the databases: the two header hashes and, where this node executed the height,
    its own header, the hash and receipt of each transaction and the write set, to compare with a healthy node's block.
    It appears whole or not at all.
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
    temporary = path.with_suffix(".writing")
    temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def load_divergence(data: Path) -> dict[str, Any] | None:
    """The report in a data folder, None if there is none.

    Raises:
        StoreError: it cannot be read.
    """
    path = data / REPORT
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None
    if not isinstance(report, dict) or not {"height", "reason", "own_header_hash"} <= report.keys():
        raise StoreError(f"{path}: no report of a divergence")
    return report
