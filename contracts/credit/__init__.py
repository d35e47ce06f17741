"""Credit reporting: members, products, consents, records, orders, own reports, the query log,
objections and settlement.

`SUITE` says how to deploy it. The other files of this folder are contracts: sources for the chain, never imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from contracts.suite import Call, Deployed, Deployment, Party, Suite

_FOLDER: Final = Path(__file__).parent
_REGISTRY: Final = Deployed("credit.registry")
_OPERATOR: Final = Party("operator")
_READERS: Final = (Deployed("credit.order"), Deployed("credit.self_report"))

SUITE: Final = Suite(
    name="credit",
    parties=("regulator", "operator"),
    admin="operator",
    deployments=(
        Deployment("credit.registry", _FOLDER / "registry.py", (Party("regulator"), _OPERATOR)),
        Deployment("credit.product", _FOLDER / "product.py", (_REGISTRY,)),
        Deployment("credit.consent", _FOLDER / "consent.py", (_REGISTRY, _OPERATOR)),
        Deployment("credit.record", _FOLDER / "record.py", (_REGISTRY, Deployed("credit.consent"), _OPERATOR)),
        Deployment("credit.query_log", _FOLDER / "query_log.py", (_REGISTRY, _OPERATOR)),
        Deployment("credit.settlement", _FOLDER / "settlement.py", (_REGISTRY, _OPERATOR)),
        Deployment(
            "credit.order",
            _FOLDER / "order.py",
            (
                _REGISTRY,
                Deployed("credit.product"),
                Deployed("credit.consent"),
                Deployed("credit.record"),
                Deployed("credit.query_log"),
                Deployed("credit.settlement"),
            ),
        ),
        Deployment(
            "credit.self_report",
            _FOLDER / "self_report.py",
            (_REGISTRY, Deployed("credit.record"), Deployed("credit.query_log")),
        ),
        Deployment("credit.objection", _FOLDER / "objection.py", (_REGISTRY, Deployed("credit.record"))),
    ),
    wiring=(
        Call("operator", "credit.consent", "connect", (Deployed("credit.order"), Deployed("credit.record"))),
        Call("operator", "credit.record", "connect", (*_READERS, Deployed("credit.objection"))),
        Call("operator", "credit.query_log", "connect", _READERS),
        Call("operator", "credit.settlement", "connect", (Deployed("credit.order"),)),
    ),
)

__all__ = ["SUITE"]
