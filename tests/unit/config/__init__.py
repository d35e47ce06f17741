"""chain.config."""
