"""`prpm job`: one job, also after the waiting for it has ended."""

from __future__ import annotations

import click


@click.command("job", short_help="Show a test job, waiting for its end")
@click.argument("job_id", metavar="ID")
@click.option("--cancel", is_flag=True, help="End the job instead")
@click.option("--retry", is_flag=True, help="Send the finished job again as a new one, which counts as a run")
@click.option("--follow", is_flag=True, help="Print a line for each trial when it finishes")
@click.option("--verbose", is_flag=True, help="Show every answer, assertion and attempt")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up waiting after so long without progress",
)
def command(*, job_id: str, timeout: float, **flags: bool) -> int:
    """Show the test job ID as `prpm test` would have, waiting for its end if it still runs.

    Exit codes are those of `prpm test`. Ctrl-C stops the waiting, not the job; with --retry it cancels the new one.
    """
    from cli.errors import InvalidUse
    from cli.hosted import HostedRun
    from cli.session import load_config, open_client
    from cli.terminal import Terminal

    if flags["cancel"] and (flags["retry"] or flags["follow"]):
        raise InvalidUse("--cancel ends the job, so there is nothing to follow or to wait for; leave the others out.")
    terminal = Terminal(machine=flags["as_json"])
    config = load_config(terminal)
    with open_client(config) as client:
        if flags["cancel"]:
            client.cancel_test_job(job_id)
            terminal.say(f"🛑 Cancelled: {job_id}")
            return 0
        run = HostedRun(client, terminal, web_url=config.web_url)
        if flags["retry"]:
            return run.retry(job_id, verbose=flags["verbose"], timeout_seconds=timeout, live=flags["follow"])
        return run.follow(job_id, verbose=flags["verbose"], upload=True, timeout_seconds=timeout, live=flags["follow"])
