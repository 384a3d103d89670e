"""`prpm verify`: is this outcome as it was signed, and by whom? Offline."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click


@click.command("verify", short_help="Check the signature of a stored outcome, offline")
@click.argument("outcome", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--key", metavar="HEX", help="The public key that must have signed it  [default: your own]")
@click.option(
    "--keys",
    "keys_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A service's public keys, as its /.well-known/prpm-testing-keys.json has them",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")
def command(*, outcome: Path, key: str | None, keys_file: Path | None, as_json: bool) -> int:
    """Check that OUTCOME (a .json file of `prpm test --output`) is as it was signed.

    Exit codes: 0 unchanged and signed by the key, 1 changed, 2 not signed, or by a key that is not the expected one.
    """
    from cli.errors import CommandError
    from cli.outcome_file import read_outcome_file
    from cli.signing_key import own_public_key
    from cli.terminal import Terminal
    from evals.signing import WrongSignature, read_document, verify

    expected = _expected(key, keys_file, own=own_public_key)
    terminal = Terminal(machine=as_json)
    try:
        signer = verify(read_document(read_outcome_file(outcome)))
    except WrongSignature as error:
        terminal.explain(CommandError(f"{outcome}: {error.message}", code="wrong_signature"))
        return 1
    if signer not in expected:
        raise CommandError(
            f"{outcome} is as it was signed, but by a key that is not known here.",
            code="unknown_key",
            details=[f"signed by {signer}"],
            hints=("   If you know whose key this is: prpm verify --key " + signer + f" {outcome}",),
        )
    terminal.say(f"✅ {outcome} is as it was signed.")
    terminal.say(f"   Key: {signer}")
    if terminal.machine:
        terminal.document({"verified": True, "key": signer})
    return 0


def _expected(key: str | None, keys_file: Path | None, *, own: Callable[[], str | None]) -> set[str]:
    """Whose signature counts: the key's or the file's keys', by default one's own. Raises InvalidUse."""
    from cli.errors import InvalidUse

    if key is not None and keys_file is not None:
        raise InvalidUse("--key and --keys each say who must have signed: give one of them.")
    if keys_file is not None:
        return _read_keys(keys_file)
    if key is not None and not re.fullmatch("[0-9a-fA-F]{64}", key):
        raise InvalidUse("--key takes a public key: 64 hex digits, as `prpm verify` shows them.")
    known = key.lower() if key is not None else own()
    return {known} if known is not None else set()


def _read_keys(path: Path) -> set[str]:
    import msgspec

    from cli.answers import SigningKeys
    from cli.errors import InvalidUse
    from cli.outcome_file import read_outcome_file

    try:
        found = msgspec.json.decode(read_outcome_file(path), type=SigningKeys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidUse(f"{path} holds no keys: save a service's /.well-known/prpm-testing-keys.json.") from None
    return {known.key.lower() for known in found.keys}
