"""One node put together: keys, store, pool, consensus, executors, gateway, API; and the folder of a new consortium."""
