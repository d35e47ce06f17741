"""Income verification: issuers, attestations, consents, verification, quotas and the log of uses.

`SUITE` says how to deploy it. The other files of this folder are contracts: sources for the chain, never imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from contracts.suite import Call, Deployed, Deployment, Party, Suite

_FOLDER: Final = Path(__file__).parent
_ISSUER: Final = Deployed("income.issuer")
_OPERATOR: Final = Party("operator")
_ASKING: Final = (_ISSUER, Deployed("income.attest"), Deployed("income.consent"), Deployed("income.usage"))
_ASKERS: Final = (Deployed("income.verify"), Deployed("income.quota"))

SUITE: Final = Suite(
    name="income",
    parties=("regulator", "operator"),
    admin="operator",
    deployments=(
        Deployment("income.issuer", _FOLDER / "issuer.py", (Party("regulator"), _OPERATOR)),
        Deployment("income.attest", _FOLDER / "attest.py", (_ISSUER, _OPERATOR)),
        Deployment("income.consent", _FOLDER / "consent.py", (_ISSUER, _OPERATOR)),
        Deployment("income.usage", _FOLDER / "usage.py", (_ISSUER, _OPERATOR)),
        Deployment("income.verify", _FOLDER / "verify.py", _ASKING),
        Deployment("income.quota", _FOLDER / "quota.py", _ASKING),
    ),
    wiring=(
        Call("operator", "income.attest", "connect", _ASKERS),
        Call("operator", "income.consent", "connect", _ASKERS),
        Call("operator", "income.usage", "connect", _ASKERS),
    ),
)

__all__ = ["SUITE"]
