"""The outside: settings, wiring, server, command line, metrics."""
