"""The client: ABI, fail-over, idempotent sending."""
