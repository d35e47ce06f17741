"""Named after the failures they stop."""
