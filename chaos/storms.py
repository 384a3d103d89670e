"""One storm from the first submit to the verdict."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from random import Random

import asyncpg
from msgspec import Struct

from chaos.broken import Variant
from chaos.checks import Finding, LeaseSampler, judge, load, read_ends, read_faults
from chaos.faults import Storm, deck, shuffled
from chaos.site import Site, SiteOptions, open_site
from chaos.submitters import AnswerLog, Habits, submit_until

TIERS = ("plus", "plus", "pro", "enterprise", "plus")
WARM_UP_SECONDS = 1.0
DRAIN_SECONDS = 60.0
BROKEN_DRAIN_SECONDS = 15.0
MOST_BROKEN_STORMS = 3  # as a gap must be hit at the right moment


class Report(Struct, frozen=True, kw_only=True):
    """What a storm was and what it found."""

    seed: int
    seconds: float
    drain_seconds: float
    faults: dict[str, int]
    answers: dict[str, int]  # by status
    figures: dict[str, int]
    findings: tuple[Finding, ...]
    evidence: str | None  # the folder with logs and data, kept when something was found

    def shows(self, variant: Variant) -> bool:
        """Whether the storm found what this variant lacks."""
        return any(finding.check.startswith(variant.seen_by) for finding in self.findings)


async def run_storm(*, seed: int, kills: int) -> Report:
    """The whole catalogue of faults on the service as it is."""
    random = Random(seed)
    return await _run(
        SiteOptions(),
        seed=seed,
        random=random,
        faults=deck(kills, random),
        drain_seconds=DRAIN_SECONDS,
        keeps_evidence=True,
        followed_share=0.3,
        changed_share=0.3,
    )


async def show_broken(variant: Variant, *, seed: int) -> Report:
    """The first short storm that shows what the service lacks, or the last one."""
    for attempt in range(MOST_BROKEN_STORMS):
        report = await run_broken(variant, seed=seed + attempt)
        if report.shows(variant):
            break
    return report


async def run_broken(variant: Variant, *, seed: int) -> Report:
    """A short storm on a service that lacks one safeguard."""
    random = Random(seed)
    return await _run(
        variant.options,
        seed=seed,
        random=random,
        faults=shuffled(variant.faults, random),
        drain_seconds=BROKEN_DRAIN_SECONDS,
        statements=variant.statements,
        most_milliseconds=variant.most_milliseconds,
    )


async def _run(
    options: SiteOptions,
    *,
    seed: int,
    random: Random,
    faults: list[str],
    drain_seconds: float,
    statements: str = "",
    most_milliseconds: int = 500,
    keeps_evidence: bool = False,
    followed_share: float = 0.0,
    changed_share: float = 0.0,
) -> Report:
    async with open_site(options) as site:
        if statements:
            await execute(site.dsn, statements)
        log = AnswerLog(site.folder / "answers.jsonl")
        sampler = LeaseSampler(site.dsn)
        storm = Storm(site, Random(random.random()))
        began = time.monotonic()
        sampling = asyncio.create_task(sampler.run())
        stop = asyncio.Event()
        submitting = [
            asyncio.create_task(submit_until(stop, habits, url=site.url, log=log, random=Random(random.random())))
            for habits in await _submitters(
                site,
                most_milliseconds=most_milliseconds,
                followed_share=followed_share,
                changed_share=changed_share,
            )
        ]
        await asyncio.sleep(WARM_UP_SECONDS)
        await storm.rage(faults, most_gap_seconds=2.4)
        raged = time.monotonic()
        stop.set()
        await site.heal()
        await asyncio.gather(*submitting)
        drained = await _drain(site, seconds=drain_seconds)
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        findings = await _judge(site, log, sampler)
        site.is_kept = keeps_evidence and bool(findings)
        return Report(
            seed=seed,
            seconds=raged - began,
            drain_seconds=drained,
            faults=dict(storm.counts),
            answers=dict(sorted(Counter(str(answer.status) for answer in log.answers).items())),
            figures=await _figures(site, log, sampler),
            findings=findings,
            evidence=str(site.folder) if site.is_kept else None,
        )


async def _submitters(
    site: Site, *, most_milliseconds: int, followed_share: float, changed_share: float
) -> list[Habits]:
    """One an account; the last wants more than its tier has."""
    *usual, greedy = await site.add_accounts(*TIERS)
    return [
        *(
            Habits(
                account=account,
                most_milliseconds=most_milliseconds,
                followed_share=followed_share,
                changed_share=changed_share,
                most_pause_seconds=1.2 * most_milliseconds / 500,  # longer jobs come less often
            )
            for account in usual
        ),
        Habits(account=greedy, most_pause_seconds=0.3, keyed_share=1.0, most_cases=2, most_milliseconds=100),
    ]


async def _drain(site: Site, *, seconds: float) -> float:
    """Seconds until nothing waits or runs, at most `seconds`."""
    began = time.monotonic()
    connection = await asyncpg.connect(site.dsn)
    try:
        while time.monotonic() - began < seconds:
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM test_jobs WHERE completed_at IS NULL)"):
                break
            await asyncio.sleep(0.1)
        return time.monotonic() - began
    finally:
        await connection.close()


async def _judge(site: Site, log: AnswerLog, sampler: LeaseSampler) -> tuple[Finding, ...]:
    connection = await asyncpg.connect(site.dsn)
    try:
        await load(
            connection,
            log=log,
            calls=site.model.calls,
            ends=read_ends(path for worker in site.workers for path in worker.logs()),
            faults=read_faults(path for program in site.programs for path in program.logs()),
            overruns=sampler.overruns,
            messages=await site.redis_messages(),
        )
        return tuple(await judge(connection))
    finally:
        await connection.close()


async def _figures(site: Site, log: AnswerLog, sampler: LeaseSampler) -> dict[str, int]:
    connection = await asyncpg.connect(site.dsn)
    try:
        row = await connection.fetchrow(
            "SELECT COUNT(*) AS jobs, COUNT(*) FILTER (WHERE status = 'completed') AS completed, "
            "COUNT(*) FILTER (WHERE error_code = 'cancelled') AS cancelled, "
            "COUNT(*) FILTER (WHERE error_code = 'superseded') AS superseded, "
            "COUNT(*) FILTER (WHERE change IS NOT NULL) AS heads, "
            "(SELECT COALESCE(SUM(cost_usd), 0) FROM user_test_usage) AS cost_usd, "
            "COUNT(*) FILTER (WHERE attempt > 1) AS again, "
            "(SELECT COUNT(*) FROM usage_ledger WHERE kind = 'refund') AS refunds, "
            "(SELECT COUNT(*) FROM trials) AS trials FROM test_jobs"
        )
    finally:
        await connection.close()
    return {
        "jobs wanted": len(log.ended),
        "requests without an answer": log.unanswered,
        "jobs followed by events": len(log.followed),
        "connections of followers": sum(followed.connections for followed in log.followed),
        "jobs accepted": row["jobs"],
        "completed": row["completed"],
        "given back": row["refunds"],
        "cancelled": row["cancelled"],
        "heads of pull requests": row["heads"],
        "superseded": row["superseded"],
        "spent, in millionths of a dollar": int(row["cost_usd"] * 1_000_000),
        "jobs with more than one attempt": row["again"],
        "trials stored": row["trials"],
        "calls at the model": len(site.model.calls),
        "samples of live leases": sampler.samples,
        **{f"answers dropped: {kind}": count for kind, count in sorted(site.proxy.swallowed.items())},
    }


async def execute(dsn: str, statements: str) -> None:
    """Carry out the statements on the database itself."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()
