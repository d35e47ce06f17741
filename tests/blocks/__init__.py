"""Random blocks with real contention, executed every way there is, compared with a small executor of their own."""
