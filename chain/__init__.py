"""The node: types, storage, network, pool, pipeline, JSON-RPC and the command line around the consensus core."""
