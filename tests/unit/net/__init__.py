"""chain.net."""
