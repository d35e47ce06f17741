"""The store, module by module."""
