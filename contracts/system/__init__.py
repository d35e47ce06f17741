"""The system contract: deploys, names, upgrades and freezes contracts. Native code over the same tracked state."""

import contracts.runtime  # noqa: F401  (the machine imports modules of this package: it has to come first)
from contracts.system.contract import SYSTEM_ABI, SYSTEM_ADDRESS, SystemContract, contract_address

__all__ = ["SYSTEM_ABI", "SYSTEM_ADDRESS", "SystemContract", "contract_address"]
