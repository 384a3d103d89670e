"""`prpm jobs`: what was tested lately."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cli.answers import ListedJob

MARKS = {"passed": "✅", "failed": "❌", "inconclusive": "⚠️"}


@click.command("jobs", short_help="List my test jobs, newest first")
@click.option("--status", type=click.Choice(["queued", "running", "completed", "failed"]), help="Only these")
@click.option("--package", metavar="NAME", help="Only jobs of this package")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many")
@click.option("--org", metavar="NAME", help="Those of this organisation")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")
def command(*, status: str | None, package: str | None, limit: int, org: str | None, as_json: bool) -> int:
    """List my test jobs, newest first. `prpm job ID` shows one."""
    import msgspec

    from cli.session import load_config, open_client
    from cli.terminal import Terminal

    terminal = Terminal(machine=as_json)
    with open_client(load_config(terminal)) as client:
        page = client.list_test_jobs(status=status, package=package, account=org, limit=limit)
    if as_json:
        terminal.document(msgspec.to_builtins(page))
        return 0
    terminal.say("📋 Test jobs:")
    terminal.say()
    for job in page.jobs:
        terminal.say(job_line(job))
    if not page.jobs:
        terminal.say("   none yet: `prpm test <package>` starts one")
    return 0


def job_line(job: ListedJob) -> str:
    """One job: when, what, on which models, and what came of it."""
    package = f"{job.package.name}@{job.package.version}" if job.package else ""
    return "   " + "  ".join(
        [job.created_at[:16].replace("T", " "), job.id, package, ",".join(job.models), _verdict(job)]
    )


def _verdict(job: ListedJob) -> str:
    if job.status == "failed":
        return f"❌ {job.error or 'failed'}"
    if job.results is None:
        return f"⏳ {job.status}"
    concluded = job.results.concluded
    cached = " (cached)" if job.cached else ""
    return f"{MARKS.get(concluded, '⚠️')} {job.results.tests_passed}/{job.results.total_tests} passed{cached}"
