"""The family of checkers behind `make security`: one file each, found by itself.

A checker is a module with `missing() -> list[str]` (what has to be installed first: sentences with the command)
and `check() -> bool` (True if nothing was found; it prints what was).
"""
