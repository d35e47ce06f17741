"""Names for the values that cross module borders, so that two of them cannot be swapped unnoticed."""

from typing import Final, NewType

Height = NewType("Height", int)  # genesis is 0, the first block 1
View = NewType("View", int)
ValidatorId = NewType("ValidatorId", bytes)  # 20 bytes: the address of the validator key
Digest = NewType("Digest", bytes)  # 32 bytes, SHA-256 over a domain tag and canonical bytes
Address = NewType("Address", bytes)  # 20 bytes: an account or a contract
Instant = NewType("Instant", int)  # milliseconds, whatever clock the caller keeps

DIGEST_BYTES: Final = 32
ADDRESS_BYTES: Final = 20
SIGNATURE_BYTES: Final = 64
NONCE_BYTES: Final = 16

GENESIS_HEIGHT: Final = Height(0)
ZERO_DIGEST: Final = Digest(bytes(DIGEST_BYTES))

# One bound on a message for every layer: gateway frame, consensus message, sync answer, RPC body.
MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024
