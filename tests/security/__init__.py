"""Checkers and attacks that need more than Python: `make security`."""
