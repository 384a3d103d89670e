"""`prpm test --local`: the same engine, here, against the user's own LiteLLM proxy, with no server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cli import answers
from cli.agents import LONGER, choose_agent
from cli.cases import find_cases
from cli.client import RegistryClient
from cli.errors import CommandError, InvalidUse, NoLocalModels
from cli.hosted import EXIT_CODES, read_archive_file
from cli.last_run import LastRuns
from cli.outcome_file import read_outcome_file
from cli.progress import Display, waiting
from cli.proxy import list_models
from cli.reports import find_reports, write_reports
from cli.request import HOSTED_BASELINE, RunRequest
from cli.subject import ArchiveFile, Folder, Registered, Subject
from cli.terminal import Terminal
from cli.user_config import UserConfig
from cli.wording import gate_lines, result_lines, summary_lines

if TYPE_CHECKING:
    from evals.comparing import BaseRun, Before
    from evals.comparison import Baseline
    from evals.outcome import Outcome
    from evals.packages import Package
    from evals.pool import ModelPool
    from evals.runner import Plan
    from evals.types import Agreement, Trial, TrialKey

DEFAULT_MODEL = "claude-sonnet-4"
CONCURRENCY = 8

# The proxy refuses to start without a master key, and listens to the whole network unless told otherwise.
# https://docs.litellm.ai/docs/proxy/quick_start
HELP = """
To use local testing:
1. Install LiteLLM: pip install 'litellm[proxy]==1.106.2'
2. Set API keys: export ANTHROPIC_API_KEY=your_key
3. Choose the proxy's own key: export PRPM_LOCAL_KEY=sk-$(openssl rand -hex 32)
4. Name the models in litellm.yaml:
   model_list:
     - model_name: claude-sonnet-4
       litellm_params: {{model: anthropic/claude-sonnet-4-6}}
5. Start proxy: LITELLM_MASTER_KEY=$PRPM_LOCAL_KEY litellm --config litellm.yaml --host 127.0.0.1 --port 4000
6. Run tests in another terminal with the same PRPM_LOCAL_KEY: prpm test {package} --local

Or upgrade to prpm+ for zero-setup hosted testing:
  prpm subscribe"""


def run_local(request: RunRequest, *, config: UserConfig, client: RegistryClient, terminal: Terminal) -> int:
    """The exit code: 0 passed, 1 a test failed, 2 inconclusive. Raises CommandError or EngineError."""
    refuse_hosted_only(request)
    terminal.say("🔧 Using local testing")
    terminal.say()
    models = request.models or (DEFAULT_MODEL,)
    baseline = read_baselines(request)
    reports = find_reports(request.outputs)
    known = need_proxy(config, models=models, package=request.text)
    plan, snapshot = make_plan(request, models=models, config=config, client=client, terminal=terminal)
    need_judges(plan, known=known, config=config)
    base = load_base(request, plan, client=client, config=config, terminal=terminal)
    against = Against(baseline, base) if baseline is not None else None
    terminal.say("⚡ Running tests with LiteLLM..." if plan.agent is None else "⚡ Running tests with an agent...")
    terminal.say()
    outcome = gated(run_plan(plan, snapshot=snapshot, config=config, terminal=terminal, against=against), request)
    shown = show(outcome, terminal=terminal, verbose=request.verbose)
    LastRuns(config.cache_folder).remember(request, shown.test_cases)
    write_reports(reports, msgspec.json.encode(outcome), terminal=terminal)
    return EXIT_CODES.get(outcome.summary.conclusion, 2)


class Against(NamedTuple):
    """What a run is compared with: stored trials, and the package as it was, to be run where they are too few."""

    baseline: Baseline
    base: Before | None


class Made(NamedTuple):
    """What is to be run, and the id that the service gives to the same files."""

    plan: Plan
    snapshot: str


class Ran(NamedTuple):
    """All trials of a run, what it was compared with in the end, and how far its judges agree with themselves."""

    trials: list[Trial]
    base: BaseRun | None
    agreement: Agreement | None


def refuse_hosted_only(request: RunRequest) -> None:
    """Raises InvalidUse for what only the service can do."""
    if request.estimate:
        raise InvalidUse("Only the service tells prices. Leave out --local, or log in with `prpm login`.")
    if request.max_cost_usd is not None:
        raise InvalidUse("Locally no price is known, so --max-cost cannot hold. Set a budget in your proxy instead.")
    if request.upload:
        raise InvalidUse("Local results cannot be uploaded: nobody else can check them. Leave out -u, or test hosted.")
    if request.verify:
        raise InvalidUse("Local results cannot be verified: only the service's own runs can. Leave out -v.")


def need_proxy(config: UserConfig, *, models: tuple[str, ...], package: str) -> tuple[str, ...]:
    """The names that the proxy lists.

    Raises NoLocalModels, with what to do, unless a proxy answers that has these models.
    """
    try:
        known = list_models(config.local_url, key=config.local_key)
    except NoLocalModels as error:
        error.hints = tuple(HELP.format(package=package).splitlines())
        raise
    require_listed(models, known=known, config=config)
    return known


def need_judges(plan: Plan, *, known: tuple[str, ...], config: UserConfig) -> None:
    """Raises CommandError unless the proxy has who shall judge, before anything is asked of anybody."""
    from evals.grading import judges_named

    require_listed(judges_named(plan.suite), known=known, config=config, what=", which the suite wants to be judged by")


def require_listed(models: tuple[str, ...], *, known: tuple[str, ...], config: UserConfig, what: str = "") -> None:
    """Raises CommandError for the first of these models that is not among the known ones."""
    missing = [name for name in models if name not in known]
    # A wildcard entry ("anthropic/*") can stand for any name; then the proxy itself has to say.
    if known and missing and not any("*" in name for name in known):
        raise CommandError(
            f"The proxy at {config.local_url} has no model named {missing[0]}{what}.",
            code="unknown_model",
            details=[f"models: it has {', '.join(known[:30])}"],
        )


def make_plan(
    request: RunRequest,
    *,
    models: tuple[str, ...],
    config: UserConfig,
    client: RegistryClient,
    terminal: Terminal,
) -> Made:
    """What is to be run. Raises InvalidPackage, InvalidSuite, or CommandError if there is no suite."""
    from evals.archives import snapshot_id
    from evals.runner import Plan

    package, files = load_package(request.subject, client)
    suite = find_cases(request, package, models=models, config=config, client=client, terminal=terminal)
    agent = choose_agent(
        request, package=package, files=files, suite=suite, models=models, config=config, terminal=terminal
    )
    plan = Plan(
        instructions=package.instructions,
        suite=suite,
        models=models,
        concurrency=CONCURRENCY,
        trial_timeout_seconds=request.timeout_seconds * (1 if agent is None else LONGER),
        agent=agent,
        allow_code=request.allow_code,
        early_stop=not request.all_repeats,
        in_rounds=True,
    )
    return Made(plan, snapshot_id(files))


def gated(outcome: Outcome, request: RunRequest) -> Outcome:
    """The outcome by the gate that was asked for; as it is without one."""
    if request.gate is None and request.min_score is None:
        return outcome
    from evals.gating import GateWish, with_gate

    rule = request.gate or ("regressions" if outcome.comparison else "failures")
    return with_gate(outcome, GateWish(rule=rule, min_score=request.min_score))


def read_baselines(request: RunRequest) -> Baseline | None:
    """What the stored outcomes know; None if nothing is to be compared. Raises InvalidUse or InvalidBaseline."""
    if not request.baselines and request.base is None:
        return None
    from evals.baselines import read_baseline

    hosted = next(
        (name for name in request.baselines if HOSTED_BASELINE.fullmatch(name) and not Path(name).exists()), None
    )
    if hosted is not None:
        raise InvalidUse(f"Only the service knows {hosted}: leave out --local, or name the file of a stored outcome.")
    return read_baseline([(name, read_outcome_file(Path(name))) for name in request.baselines])


class Loaded(NamedTuple):
    """A package and all that it came with."""

    package: Package
    files: Mapping[str, bytes]


def load_package(subject: Subject, client: RegistryClient) -> Loaded:
    """What is tested, from where it is. Raises InvalidPackage or CommandError."""
    from evals.archives import read_archive
    from evals.folders import read_folder
    from evals.narrowing import narrow
    from evals.packages import read_package

    if isinstance(subject, Folder | ArchiveFile):
        is_folder = isinstance(subject, Folder)
        files = read_folder(subject.path) if is_folder else read_archive(read_archive_file(subject.path))
        files = narrow(files, subject.package) if subject.package is not None else files
        return Loaded(read_package(files), files)
    known = client.get_package_by_name(subject.name)
    version = find_version(subject, known, client)
    files = read_archive(client.download(version))
    package = read_package(
        files,
        name=known.name,
        version=version.version or subject.version,
        format=known.format,
        subtype=known.subtype,
    )
    return Loaded(package, files)


def load_base(
    request: RunRequest, plan: Plan, *, client: RegistryClient, config: UserConfig, terminal: Terminal
) -> Before | None:
    """The package as it was, to be run as the plan runs it now; None where none is named.

    Raises FrameworkUnavailable for one that was no agent, and what `load_package` raises.
    """
    if request.base is None:
        return None
    from evals.comparing import Before

    package, files = load_package(request.base, client)
    if plan.agent is None:
        return Before(package.instructions)
    agent = choose_agent(
        msgspec.structs.replace(request, framework="claude-agent"),
        package=package,
        files=files,
        suite=plan.suite,
        models=plan.models,
        config=config,
        terminal=terminal,
    )
    return Before(package.instructions, agent)


def find_version(subject: Registered, known: answers.PackageInfo, client: RegistryClient) -> answers.PackageVersion:
    """The version that was asked for, else the newest. Raises CommandError."""
    if subject.version is not None:
        return client.get_package_version(subject.name, subject.version)
    if known.latest_version is None:
        raise CommandError(f"{subject.name} has no published version.", code="not_found")
    return known.latest_version


def run_plan(
    plan: Plan, *, snapshot: str, config: UserConfig, terminal: Terminal, against: Against | None = None
) -> Outcome:
    """The outcome of every trial, compared if there is something to compare with. Progress is shown while they run."""
    from evals import ENGINE_VERSION
    from evals.outcome import build_outcome
    from evals.provenance import provenance_of, record_of

    started = time.monotonic()
    with waiting(terminal) as display:
        trials, base, agreement = asyncio.run(run_trials(plan, config=config, display=display, against=against))
    base_trials = base.trials if base is not None else ()
    outcome = build_outcome(
        plan.suite,
        plan.models,
        trials,
        total_duration_ms=round((time.monotonic() - started) * 1000),
        engine_version=ENGINE_VERSION,
        baseline=base.baseline if base is not None else None,
        base_trials=base_trials,
        agreement=agreement,
    )
    return msgspec.structs.replace(
        outcome,
        provenance=provenance_of(
            plan.instructions,
            plan.suite,
            plan.models,
            trials,
            snapshot=snapshot,
            agent=plan.agent,
            early_stop=plan.early_stop,
        ),
        record=record_of(plan.suite, plan.models, trials, base_trials=base_trials),
    )


async def run_trials(plan: Plan, *, config: UserConfig, display: Display, against: Against | None = None) -> Ran:
    """Every trial of the plan, in the order in which they ended, then those of rows that stand against the baseline."""
    from evals.agreement import measure_agreement
    from evals.catalogue import single_proxy_catalogue
    from evals.comparing import rerun_suspects
    from evals.pool import ModelPool
    from evals.runner import keys_in_order, run, trial_count
    from evals.types import TrialKey

    catalogue = single_proxy_catalogue(config.local_url, key=config.local_key, models=plan.models)
    total = trial_count(plan)
    trials: list[Trial] = []
    pending = dict.fromkeys(keys_in_order(plan))
    display.show(count(trials, total=total, asking=_asking(plan, pending)))
    async with ModelPool(catalogue) as pool:
        async for trial in run(plan, pool=pool, done=()):
            trials.append(trial)
            pending.pop(TrialKey(trial.case_index, trial.model, trial.repeat_index), None)
            display.show(count(trials, total=total, asking=_asking(plan, pending)))
        if against is None:
            return Ran(trials, None, await measure_agreement(plan, trials, pool=pool))
        own = list(trials)
        base = await complete_baseline(plan, trials, against=against, pool=pool)
        async for trial in rerun_suspects(plan, tuple(trials), baseline=base.baseline, pool=pool):
            trials.append(trial)
            display.show(count(trials, total=max(total, len(trials))))
        agreement = await measure_agreement(plan, own, pool=pool)
    return Ran(trials, base, agreement)


async def complete_baseline(plan: Plan, trials: list[Trial], *, against: Against, pool: ModelPool) -> BaseRun:
    """The baseline with the package as it was run too, if that is at hand."""
    from evals.comparing import BaseRun, run_base

    if against.base is None:
        return BaseRun(against.baseline, ())
    return await run_base(plan, tuple(trials), base=against.base, baseline=against.baseline, pool=pool)


def _asking(plan: Plan, pending: dict[TrialKey, None]) -> answers.Asking | None:
    """The first trial that has not finished; those that follow it are asked beside it."""
    first = next(iter(pending), None)
    if first is None:
        return None
    title = plan.suite.cases[first.case_index].title
    return answers.Asking(case=title, model=first.model, repeat=first.repeat_index + 1)


def count(trials: list[Trial], *, total: int, asking: answers.Asking | None = None) -> answers.Progress:
    """How far the run is."""
    states = [trial.state for trial in trials]
    return answers.Progress(
        trials_total=total,
        trials_finished=len(states),
        passed=states.count("passed"),
        failed=states.count("failed"),
        errored=states.count("error"),
        asking=asking,
    )


def show(outcome: Outcome, *, terminal: Terminal, verbose: bool) -> answers.Results:
    """What was shown: the result list and the sums; with `--json` the document too."""
    # Through JSON, so that both modes show the one public form.
    body = msgspec.json.encode(outcome)
    results = msgspec.json.decode(body, type=answers.Results)
    terminal.say("✅ Test completed!")
    terminal.say()
    terminal.say("📊 Test Results:")
    terminal.say()
    for line in result_lines(results.test_cases, verbose=verbose):
        terminal.say(line.text, colour=line.colour)
    terminal.say()
    for line in summary_lines(msgspec.convert(results.summary, answers.Summary)):
        terminal.say(line.text, colour=line.colour)
    for line in gate_lines(results, conclusion=outcome.summary.conclusion):
        terminal.say(line.text, colour=line.colour)
    if terminal.machine:
        terminal.document({"conclusion": outcome.summary.conclusion} | msgspec.json.decode(body))
    return results
