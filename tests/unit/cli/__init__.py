"""The command line: arguments, output, processes."""
