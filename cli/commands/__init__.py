"""The family of commands. To add one, put a file here, named as the command, with a click command `command`.

Nothing else is edited. A file imports what it needs inside its function, so that `prpm --help` stays fast.
"""
