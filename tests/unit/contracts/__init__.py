"""The contract language, the runtime, the system contract, the library."""
