"""chain.crypto."""
