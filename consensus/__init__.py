"""PBFT as a pure state machine: `Replica.step(event, now) -> [effect]`; no clock, socket, randomness or disk inside."""
