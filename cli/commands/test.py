"""`prpm test`: run a package's tests, hosted or local."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cli.request import RunRequest
    from cli.terminal import Terminal


@click.command("test", short_help="Test a package with AI models")
@click.argument("package")
@click.option("-m", "--models", metavar="A,B", help="Models to test with  [default: claude-sonnet-4]")
@click.option("-p", "--plugins", metavar="A,B", help="MCP plugins for Claude packages")
@click.option("--local", is_flag=True, help="Use local testing (requires LiteLLM/API keys)")
@click.option("-u", "--upload", is_flag=True, help="Upload test results to registry")
@click.option("-v", "--verify", is_flag=True, help="Mark results as verified")
@click.option("--verbose", is_flag=True, help="Show detailed output: every answer, assertion and attempt")
@click.option(
    "--framework",
    type=click.Choice(["litellm", "claude-agent", "auto"]),
    help="How the package is run  [default: auto]",
)
@click.option(
    "--suite",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Tests to run instead of the package's own (YAML or JSON)",
)
@click.option("--estimate", is_flag=True, help="Only tell what the run would take: trials, tokens and money")
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True, max=1_000_000),
    metavar="USD",
    help="Skip the rest once the run may cost more  [default: your tier's cap]",
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Compare with a stored outcome and gate on regressions (with --local; may be given several times)",
)
@click.option(
    "--base",
    metavar="PACKAGE",
    help="The package as it was (name, folder or archive): run too where the baseline knows too little (with --local)",
)
@click.option("--all-repeats", is_flag=True, help="Run every repeat, also when the verdict is clear (with --local)")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a report: .json, .xml (JUnit), .md, .txt or .html (may be given several times)",
)
@click.option("--no-cache", is_flag=True, help="Ask every model anew, whatever was answered before")
@click.option("--allow-code", is_flag=True, help="Let the suite run its own code here (--local only)")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up waiting after so long without progress",
)
def command(
    *,
    package: str,
    models: str | None,
    plugins: str | None,
    framework: str | None,
    suite: Path | None,
    baselines: tuple[Path, ...],
    base: str | None,
    outputs: tuple[Path, ...],
    timeout: float,
    max_cost: float | None,
    **flags: bool,
) -> int:
    """Test a package with AI models.

    PACKAGE is a name (@author/package, @author/package@1.2.0), a folder or a .tar.gz file.

    Exit codes: 0 all tests passed, 1 a test or the run failed, 2 could not run or inconclusive. With --estimate:
    0 the run fits your caps or may do so, 2 it does not.
    """
    from cli.errors import InvalidUse
    from cli.request import RunRequest, comma_separated
    from cli.subject import find_subject
    from cli.terminal import Terminal

    if timeout != timeout:  # noqa: PLR0124 - not a number, which no range keeps out
        raise InvalidUse("--timeout takes a number of seconds.")
    if max_cost != max_cost:  # noqa: PLR0124 - as above
        raise InvalidUse("--max-cost takes an amount of USD.")
    request = RunRequest(
        text=package,
        subject=find_subject(package),
        models=comma_separated(models, option="--models"),
        plugins=comma_separated(plugins, option="--plugins"),
        framework=framework,  # type: ignore[arg-type]  # click.Choice has checked it
        suite_file=suite,
        baselines=baselines,
        base=find_subject(base) if base is not None else None,
        outputs=outputs,
        all_repeats=flags["all_repeats"],
        upload=flags["upload"],
        verify=flags["verify"],
        verbose=flags["verbose"],
        use_cache=not flags["no_cache"],
        allow_code=flags["allow_code"],
        timeout_seconds=timeout,
        max_cost_usd=max_cost,
        estimate=flags["estimate"],
    )
    if request.allow_code and not flags["local"]:
        raise InvalidUse(
            "--allow-code runs a suite's code on this machine: use it with --local. The service runs none."
        )
    return _run(request, Terminal(machine=flags["as_json"]), local=flags["local"])


def _run(request: RunRequest, terminal: Terminal, *, local: bool) -> int:
    """The exit code. With a token the service runs the job, unless `local`."""
    from cli.session import load_config, open_client

    config = load_config(terminal)
    with open_client(config) as client:
        if config.token is not None and not local:
            from cli.hosted import HostedRun

            run = HostedRun(client, terminal, web_url=config.web_url)
            return run.estimate(request) if request.estimate else run.run(request)
        from cli.local import run_local

        if config.token is None:
            terminal.say("💡 Tip: Login with `prpm login` to use hosted testing")
            terminal.say()
        return run_local(request, config=config, client=client, terminal=terminal)
