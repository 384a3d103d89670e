"""`prpm verify`: is this outcome as it was signed, and by whom? Offline."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("verify", short_help="Check the signature of a stored outcome, offline")
@click.argument("outcome", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--key", metavar="HEX", help="The public key that must have signed it  [default: your own]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")
def command(*, outcome: Path, key: str | None, as_json: bool) -> int:
    """Check that OUTCOME (a .json file of `prpm test --output`) is as it was signed.

    Exit codes: 0 unchanged and signed by the key, 1 changed, 2 not signed, or by a key that is not the expected one.
    """
    from cli.errors import CommandError, InvalidUse
    from cli.outcome_file import read_outcome_file
    from cli.signing_key import own_public_key
    from cli.terminal import Terminal
    from evals.signing import WrongSignature, read_document, verify

    if key is not None and (len(key) != 64 or not set(key.lower()) <= set("0123456789abcdef")):
        raise InvalidUse("--key takes a public key: 64 hex digits, as `prpm verify` shows them.")
    expected = key.lower() if key is not None else own_public_key()
    terminal = Terminal(machine=as_json)
    try:
        signer = verify(read_document(read_outcome_file(outcome)))
    except WrongSignature as error:
        terminal.explain(CommandError(f"{outcome}: {error.message}", code="wrong_signature"))
        return 1
    if signer != expected:
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
