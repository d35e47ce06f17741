"""Real databases, sockets and processes, one part at a time."""
