"""`python -m chaos.notifications`: V7 and V8 while workers and PostgreSQL die and the receiver is in trouble itself.

Every job's end must reach the receiver at least once; what reaches it more than once is counted, and bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections import Counter
from random import Random

import asyncpg
from aiohttp import web
from msgspec import Struct

from chaos.checks import read_checks
from chaos.faults import Storm, shuffled
from chaos.programs import ToolMissing
from chaos.site import Account, Site, SiteOptions, open_site
from chaos.storms import WARM_UP_SECONDS
from chaos.submitters import AnswerLog, Habits, submit_until
from evals.models import Secret
from server.services.notifying import Notifying, Wanted, add_target
from server.services.sealing import Sealer

KEY = "a key for storms alone"
TIERS = ("plus", "pro", "enterprise")
TARGETS = 2  # an account
DRAIN_SECONDS = 90.0
# Of accepted messages: a worker dies between the answer and its note of it, or is asked to stop just then.
MOST_TWICE = 0.05
FAULTS = {"worker SIGSTOP past its lease": 2, "worker SIGTERM": 2, "PostgreSQL immediate stop": 2, "FLUSHALL": 1}


class Tally(Struct, frozen=True, kw_only=True):
    """What a storm over the outbox came to."""

    seed: int
    ended: int  # jobs
    wanted: int  # messages
    accepted: int  # by the receiver, each id once
    twice: int  # accepted again under the same id
    refused: dict[str, int]  # what the receiver did instead, and how often
    findings: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.findings and self.accepted == self.wanted and self.twice <= max(2, MOST_TWICE * self.wanted)


class BadReceiver:
    """Takes messages; two of ten it refuses, one it answers late. Eight tries that all fail: one message of 400,000."""

    def __init__(self, random: Random) -> None:
        self.accepted: Counter[tuple[str, str]] = Counter()  # by path and webhook-id
        self.refused: Counter[str] = Counter()
        self._random = random
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Its origin, on a free port of 127.0.0.1."""
        app = web.Application()
        app.router.add_post("/{name}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def aclose(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        mood = self._random.choice(("500", "429", "slow", *["well"] * 7))
        if mood in ("500", "429"):
            self.refused[mood] += 1
            return web.Response(status=int(mood), headers={"Retry-After": "1"} if mood == "429" else {})
        if mood == "slow":
            self.refused[mood] += 1
            await asyncio.sleep(0.5)
        self.accepted[request.path, request.headers["webhook-id"]] += 1
        return web.Response(status=204)


async def run(*, seed: int, kills: int) -> Tally:
    """One storm, healed and drained."""
    random = Random(seed)
    receiver = BadReceiver(Random(random.random()))
    origin = await receiver.start()
    options = SiteOptions(settings={"PRPM_SECRET_KEY": KEY, "PRPM_NOTIFY_ALLOWED_ORIGINS": origin})
    try:
        async with open_site(options) as site:
            accounts = await site.add_accounts(*TIERS)
            await add_targets(site, accounts, origin)
            log = AnswerLog(site.folder / "answers.jsonl")
            stop = asyncio.Event()
            submitting = [
                asyncio.create_task(
                    submit_until(
                        stop, Habits(account=account, changed_share=0.2), url=site.url, log=log,
                        random=Random(random.random()),
                    )
                )
                for account in accounts
            ]  # fmt: skip
            await asyncio.sleep(WARM_UP_SECONDS)
            faults = shuffled({"worker kill -9": kills, **FAULTS}, random)
            await Storm(site, Random(random.random())).rage(faults, most_gap_seconds=1.5)
            stop.set()
            await site.heal()
            await asyncio.gather(*submitting)
            await drain(site.dsn)
            return await tally(site.dsn, receiver, seed=seed)
    finally:
        await receiver.aclose()


async def add_targets(site: Site, accounts: list[Account], origin: str) -> None:
    """Each account is told of everything, at several addresses."""
    async with asyncpg.create_pool(site.dsn, min_size=0, max_size=2) as db:
        notifying = Notifying(db=db, sealer=Sealer(Secret(KEY)), allowed_origins=frozenset({origin}))
        for account in accounts:
            for number in range(TARGETS):
                wanted = Wanted(kind="webhook", url=f"{origin}/{account.tier}-{number}")
                await add_target(notifying, account.id, wanted)


async def drain(dsn: str) -> None:
    """Nothing runs or waits, at most DRAIN_SECONDS later. Pauses that are left are cut short, as nobody waits a day."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while await connection.fetchval(
                "SELECT EXISTS (SELECT FROM test_jobs WHERE completed_at IS NULL)"
                " OR EXISTS (SELECT FROM outbox WHERE state = 'pending')"
            ):
                await connection.execute(
                    "UPDATE outbox SET next_at = NOW() WHERE state = 'pending' AND next_at > NOW()"
                )
                await connection.execute("UPDATE notify_targets SET hold_until = NULL WHERE hold_until > NOW()")
                await asyncio.sleep(0.5)
    except TimeoutError:
        pass  # what is left is found
    finally:
        await connection.close()


async def tally(dsn: str, receiver: BadReceiver, *, seed: int) -> Tally:
    """What reached the receiver against what ended."""
    connection = await asyncpg.connect(dsn)
    try:
        findings = [
            f"{name}: {len(rows)}, such as {dict(rows[0])}"
            for name, statement in read_checks().items()
            if name.startswith(("V7", "V8")) and (rows := await connection.fetch(statement))
        ]
        states = await connection.fetch("SELECT state, COUNT(*) AS n FROM outbox WHERE state <> 'sent' GROUP BY state")
        findings += [f"{row['n']} notifications are {row['state']}" for row in states]
        ended = await connection.fetchval("SELECT COUNT(*) FROM test_jobs WHERE status IN ('completed', 'failed')")
        wanted = await connection.fetchval("SELECT COUNT(*) FROM outbox")
    finally:
        await connection.close()
    return Tally(
        seed=seed,
        ended=ended,
        wanted=wanted,
        accepted=len(receiver.accepted),
        twice=sum(count - 1 for count in receiver.accepted.values()),
        refused=dict(sorted(receiver.refused.items())),
        findings=tuple(findings),
    )


def main() -> int:
    """0 when V7 and V8 hold, 1 when not, 2 without a tool."""
    parser = argparse.ArgumentParser(prog="python -m chaos.notifications", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the order of the faults; a random one by default")
    parser.add_argument("--kills", type=int, default=10, help="kill -9 of workers (default 10)")
    wanted = parser.parse_args()
    seed = secrets.randbelow(2**32) if wanted.seed is None else wanted.seed
    try:
        found = asyncio.run(run(seed=seed, kills=wanted.kills))
    except ToolMissing as error:
        print(f"❌ {error}", file=sys.stderr)
        return 2
    print(f"seed {found.seed}: {found.ended:,} jobs ended, {found.wanted:,} messages to tell")
    print(f"   reached the receiver: {found.accepted:,}, of which {found.twice:,} more than once")
    print(f"   the receiver's own trouble: {found.refused}")
    for finding in found.findings:
        print(f"❌ {finding}")
    print("✅ V7 and V8 hold" if found.holds else "❌ V7 or V8 does not hold")
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
