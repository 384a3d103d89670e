"""`python -m chaos`: exit code 0 when everything holds, 1 when an invariant or a bound does not, 2 without a tool."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys

from chaos import webhooks
from chaos.broken import VARIANTS
from chaos.programs import ToolMissing, find_faketime
from chaos.recovery import LONG, Effort, measure_recovery, quota_race
from chaos.reports import broken_text, recovery_text, storm_text
from chaos.storms import run_broken, run_storm, show_broken

MANY_KILLS = 200


def main() -> int:
    """Run what was asked for, everything by default."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the order of the faults; a random one by default")
    parser.add_argument("--kills", type=int, default=24, help="kill -9 in the storm (default 24; 200 is the long one)")
    parser.add_argument("--broken", choices=list(VARIANTS), help="a storm without this safeguard: it must fail")
    parser.add_argument(
        "--only",
        choices=["storm", "broken", "webhooks", "recovery", "quota"],
        help="one part alone; quota: 100 races for a run",
    )
    wanted = parser.parse_args()
    try:
        find_faketime()
    except ToolMissing as error:
        print(f"❌ {error}", file=sys.stderr)
        return 2
    seed = secrets.randbelow(2**32) if wanted.seed is None else wanted.seed
    print(f"seed {seed}", flush=True)
    return asyncio.run(run(wanted, seed=seed))


async def run(wanted: argparse.Namespace, *, seed: int) -> int:
    """0 when all that was asked for holds."""
    if wanted.broken:
        report = await run_broken(VARIANTS[wanted.broken], seed=seed)
        print(storm_text(report), flush=True)
        return 1 if report.findings else 0
    holds = True
    if wanted.only in (None, "storm"):
        storm = await run_storm(seed=seed, kills=wanted.kills)
        print(storm_text(storm), flush=True)
        holds &= not storm.findings
    if wanted.only in (None, "broken"):
        for name, variant in VARIANTS.items():
            report = await show_broken(variant, seed=seed)
            print(broken_text(name, variant, report), flush=True)
            holds &= report.shows(variant)
    if wanted.only in (None, "webhooks"):
        for is_broken in (False, True):
            tally = await webhooks.run(seed=seed, kills=max(webhooks.KILLS, wanted.kills // 6), is_broken=is_broken)
            print(webhooks.text(tally, is_broken=is_broken), flush=True)
            holds &= webhooks.holds(tally, is_broken=is_broken)
    if wanted.only in (None, "recovery"):
        recovery = await measure_recovery(seed=seed, effort=LONG if wanted.kills >= MANY_KILLS else Effort())
        print(recovery_text(recovery, seed=seed), flush=True)
        holds &= recovery.holds
    if wanted.only == "quota":
        race = await measure_recovery(seed=seed, effort=LONG, measures=[quota_race])
        print(recovery_text(race, seed=seed), flush=True)
        holds &= race.holds
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
