"""Open-loop load on a cluster of real nodes, and what it cost them."""
