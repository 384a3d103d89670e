"""`prpm score`: judge the answers of a stored outcome again, without asking any model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("score", short_help="Judge the answers of a stored outcome again, offline")
@click.argument("outcome", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a report: .json, .xml (JUnit), .md, .txt or .html (may be given several times)",
)
@click.option("--verbose", is_flag=True, help="Show detailed output: every answer, assertion and attempt")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")
def command(*, outcome: Path, outputs: tuple[Path, ...], verbose: bool, as_json: bool) -> int:
    """Judge the answers in OUTCOME (a .json file of `prpm test --local --output`) again, offline.

    The same engine gives the same verdicts, byte for byte. What a model judged is kept as it is.

    Exit codes: as `prpm test`; rows whose verdict differs from the stored one are named.
    """
    import asyncio

    import msgspec

    from cli.hosted import EXIT_CODES
    from cli.local import show
    from cli.outcome_file import read_outcome_file
    from cli.reports import find_reports, write_reports
    from cli.terminal import Terminal
    from evals.reports import read_reported
    from evals.rescoring import differing_rows, rescore

    terminal = Terminal(machine=as_json)
    reports = find_reports(outputs)
    before = read_reported(read_outcome_file(outcome), name=str(outcome)).outcome
    after = asyncio.run(rescore(before))
    show(after, terminal=terminal, verbose=verbose)
    differing = differing_rows(before, after)
    for position in differing[:50]:
        old, new = before.test_cases[position], after.test_cases[position]
        terminal.note(f"⚠️  Judged otherwise now: {new.title} · {new.model} ({old.state} before, {new.state} now)")
    if not differing:
        terminal.note("🔁 Every verdict is the stored one.")
    write_reports(reports, msgspec.json.encode(after), terminal=terminal)
    return EXIT_CODES.get(after.summary.conclusion, 2)
