"""The four kinds of error. A contract's own failure is not here: it becomes a receipt (`contracts.runtime`)."""


class HeadraceError(Exception):
    """Root of every error this project raises on purpose."""


class InvariantError(HeadraceError):
    """Our bug: a promise of the design does not hold. The process stops rather than go on wrongly."""


class BadInput(HeadraceError):
    """Somebody sent something wrong; `code` is stable and documented, the text says what would be right."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class DecodeError(BadInput):
    """Bytes that are not the canonical encoding of the expected shape."""

    def __init__(self, message: str) -> None:
        super().__init__("malformed", message)


class ConfigError(HeadraceError):
    """A configuration field has no usable value; the text names the field, the value and what would be right."""


class StoreError(HeadraceError):
    """The disk holds something it must not, or refuses to take more."""


class PeerFault(HeadraceError):
    """A peer broke the protocol; counted against it, never fatal here."""
