"""The RPC layer by itself: dispatch, definitions, values, documents."""
