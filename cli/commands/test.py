"""`prpm test`: run a package's tests, hosted or local."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import structs

if TYPE_CHECKING:
    from cli.request import RunRequest
    from cli.subject import Subject
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
@click.option(
    "--case",
    "cases",
    multiple=True,
    metavar="TEXT",
    help="Run only the cases whose title holds TEXT (may be given several times)",
)
@click.option("--failed", is_flag=True, help="Run only the cases that did not pass the last time")
@click.option("--init", is_flag=True, help="Write a suite file to start from, with your LiteLLM proxy by a model")
@click.option("--generate", is_flag=True, help="Where a package has no tests, let the model write them for this run")
@click.option("--watch", is_flag=True, help="Run again whenever the package or its tests change, until Ctrl-C")
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
    metavar="WHAT",
    help="Compare and gate on regressions: branch:NAME, version:1.2.3, job:ID or none; with --local stored outcomes",
)
@click.option(
    "--base",
    metavar="PACKAGE",
    help="The package as it was (folder, archive; --local: or name): run too if the baseline knows too little",
)
@click.option(
    "--gate",
    type=click.Choice(["regressions", "failures", "never"]),
    help="What fails the run  [default: regressions where there is a baseline, else failures]",
)
@click.option(
    "--min-score",
    type=click.FloatRange(min=0, max=1),
    metavar="SCORE",
    help="Fail below this score, 0 to 1",
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
@click.option("--package", "chosen", metavar="NAME", help="Which package, where a folder holds several")
@click.option("--org", metavar="NAME", help="The organisation that is billed, and that the run belongs to")
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
    cases: tuple[str, ...],
    baselines: tuple[str, ...],
    base: str | None,
    gate: str | None,
    min_score: float | None,
    outputs: tuple[Path, ...],
    timeout: float,
    max_cost: float | None,
    chosen: str | None,
    org: str | None,
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
    if min_score is not None and min_score != min_score:  # noqa: PLR0124 - as above
        raise InvalidUse("--min-score takes a number from 0 to 1.")
    request = RunRequest(
        text=package,
        subject=find_subject(package, package=chosen),
        models=comma_separated(models, option="--models"),
        plugins=comma_separated(plugins, option="--plugins"),
        framework=framework,  # type: ignore[arg-type]  # click.Choice has checked it
        suite_file=suite,
        cases=cases,
        baselines=baselines,
        base=_find_base(base, chosen) if base is not None else None,
        gate=gate,  # type: ignore[arg-type]  # click.Choice has checked it
        min_score=min_score,
        outputs=outputs,
        all_repeats=flags["all_repeats"],
        generate=flags["generate"],
        upload=flags["upload"],
        verify=flags["verify"],
        verbose=flags["verbose"],
        use_cache=not flags["no_cache"],
        allow_code=flags["allow_code"],
        timeout_seconds=timeout,
        max_cost_usd=max_cost,
        estimate=flags["estimate"],
        org=org,
    )
    if org is not None and flags["local"]:
        raise InvalidUse("--org says who pays for a hosted run. Leave it out with --local.")
    if request.allow_code and not flags["local"]:
        raise InvalidUse(
            "--allow-code runs a suite's code on this machine: use it with --local. The service runs none."
        )
    if cases and flags["failed"]:
        raise InvalidUse("--case and --failed each choose the cases: give one of them.")
    if (cases or flags["failed"]) and (request.upload or request.verify):
        raise InvalidUse("Some cases alone say too little about a package to be uploaded. Leave out -u and -v.")
    terminal = Terminal(machine=flags["as_json"])
    if flags["init"]:
        return _init(request, terminal)
    run = partial(_run, request, terminal, local=flags["local"], failed=flags["failed"])
    if not flags["watch"]:
        return run()
    from cli.watching import watch

    return watch(request, run, terminal=terminal)


def _find_base(text: str, chosen: str | None) -> Subject:
    """The package as it was: the same one, where it stood among several then, too."""
    from cli.subject import Registered, find_subject

    subject = find_subject(text)
    return subject if isinstance(subject, Registered) else find_subject(text, package=chosen)


def _init(request: RunRequest, terminal: Terminal) -> int:
    from cli.init import write_suite_file
    from cli.session import load_config, open_client

    config = load_config(terminal)
    with open_client(config) as client:
        return write_suite_file(request, config=config, client=client, terminal=terminal)


def _run(request: RunRequest, terminal: Terminal, *, local: bool, failed: bool) -> int:
    """The exit code. With a token the service runs the job, unless `local`."""
    from cli.last_run import LastRuns
    from cli.session import load_config, open_client

    config = load_config(terminal)
    last_runs = LastRuns(config.cache_folder)
    if failed:
        request = structs.replace(request, cases=last_runs.not_passed(request))
        if not request.cases:
            terminal.say("✅ Nothing to run: every case passed the last time.")
            if terminal.machine:
                terminal.document({"conclusion": "passed", "test_cases": []})
            return 0
    with open_client(config) as client:
        if config.token is not None and not local:
            from cli.hosted import HostedRun

            run = HostedRun(client, terminal, web_url=config.web_url, last_runs=last_runs)
            return run.estimate(request) if request.estimate else run.run(request)
        from cli.local import run_local

        if config.token is None:
            terminal.say("💡 Tip: Login with `prpm login` to use hosted testing")
            terminal.say()
        return run_local(request, config=config, client=client, terminal=terminal)
