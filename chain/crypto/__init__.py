"""Keys, addresses, signatures (one accept rule per scheme), batch verification, node certificates."""

from chain.crypto.schemes import PrivateKey, Scheme, address_of, verify, verify_batch
from chain.crypto.verifier import Verifier

__all__ = ["PrivateKey", "Scheme", "Verifier", "address_of", "verify", "verify_batch"]
