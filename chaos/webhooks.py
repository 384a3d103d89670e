"""`python -m chaos.webhooks`: deliveries of a forge while API, workers and PostgreSQL die in the middle.

Every delivery that was answered 202 is handled, each head that a pull request came to has one job, and each pull
request exactly one comment; a required check is never left open. Whatever was not answered 202 is sent again, as the
forge does when it is asked. `--broken` leaves out what makes an event one job: then it must fail.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import sys
import time
import uuid
from collections import Counter
from random import Random
from typing import Any

import asyncpg
from msgspec import Struct

from chaos.broken import WITHOUT_IDEMPOTENCY
from chaos.faults import Storm, shuffled
from chaos.model import PROMPT
from chaos.programs import ToolMissing
from chaos.site import Account, Site, SiteOptions, open_site
from chaos.storms import WARM_UP_SECONDS, execute
from evals.models import Secret
from server.services.forge_access import ForgeAccess
from server.services.installations import link_for_account
from server.services.sealing import Sealer
from tests.standins.github_app import APP_ID, PRIVATE_KEY
from tests.standins.github_forge import GitHubForge
from tests.standins.github_sender import GitHubSender

KEY = "a key for storms alone"
SECRET = "a secret for storms alone"  # noqa: S105 -- of a service that lives for a minute
PULLS = 24
BROKEN_PULLS = 8
KILLS = 4  # of workers
MOST_HEADS = 3  # of a pull request
MOST_TIMES = 3  # that a delivery is sent, under its id or another one
DRAIN_SECONDS = 60.0
FAULTS = {"API kill -9": 3, "worker SIGTERM": 1, "PostgreSQL immediate stop": 1, "FLUSHALL": 1}
BROKEN_FAULTS = {"API kill -9": 1, "worker kill -9": 1}


class Forge(GitHubSender, GitHubForge):
    """GitHub whole: it delivers, is read, and is reported to."""


class Tally(Struct, frozen=True, kw_only=True):
    """What a storm over deliveries came to."""

    seed: int
    sent: int  # times that a delivery was sent
    refused: dict[str, int]  # what was answered instead of 202, 0 for nothing
    deliveries: int  # different ids that were answered 202
    heads: int  # that are the last of their pull request
    jobs: int
    comments: int
    checks: int
    findings: tuple[str, ...]


async def run(*, seed: int, kills: int = KILLS, is_broken: bool = False) -> Tally:
    """One storm, healed and drained."""
    random = Random(seed)
    with Forge(secret=SECRET).running() as forge:
        settings = {
            "PRPM_SECRET_KEY": KEY,
            "PRPM_GITHUB_WEBHOOK_SECRET": SECRET,
            "PRPM_GITHUB_API_URL": forge.url,
            "PRPM_GITHUB_APP_ID": APP_ID,
            "PRPM_GITHUB_APP_PRIVATE_KEY": PRIVATE_KEY,
            "PRPM_NOTIFY_ALLOWED_ORIGINS": forge.url,
        }
        async with open_site(SiteOptions(settings=settings)) as site:
            if is_broken:
                await execute(site.dsn, WITHOUT_IDEMPOTENCY)
            forge.hook_url = f"{site.url}/webhooks/github"
            [account] = await site.add_accounts("enterprise")
            await link(site, forge, account)
            await asyncio.sleep(WARM_UP_SECONDS)
            pulls = BROKEN_PULLS if is_broken else PULLS
            sending = asyncio.create_task(send_all(forge, Random(random.random()), pulls=pulls))
            faults = BROKEN_FAULTS if is_broken else {"worker kill -9": kills, **FAULTS}
            await Storm(site, Random(random.random())).rage(shuffled(faults, random), most_gap_seconds=1.5)
            await site.heal()
            accepted = await sending
            await drain(site.dsn)
            return await judge(site.dsn, forge, accepted, seed=seed)


async def link(site: Site, forge: Forge, account: Account) -> None:
    """The forge's repository is the account's."""
    keys = {"GITHUB_API_URL": forge.url, "GITHUB_APP_ID": APP_ID, "GITHUB_APP_PRIVATE_KEY": PRIVATE_KEY}
    async with asyncpg.create_pool(site.dsn, min_size=0, max_size=2) as db:
        access = ForgeAccess(
            db, settings={name: Secret(value) for name, value in keys.items()}, sealer=Sealer(Secret(KEY))
        )
        async with contextlib.aclosing(access):
            name: str = await db.fetchval("SELECT username FROM users WHERE id = $1", account.id)
            await link_for_account(
                db, access, forge="github", installation_id=forge.installation_id, account=name, proof="operator"
            )


async def send_all(forge: Forge, random: Random, *, pulls: int) -> set[str]:
    """Each pull request is opened and pushed to; the ids of all that was answered 202."""
    base = forge.repository.commit(package(0), branch="main")
    accepted: set[str] = set()

    async def one(number: int) -> None:
        await asyncio.sleep(random.uniform(0.0, 8.0))
        parent = base
        for version in range(random.randint(1, MOST_HEADS)):
            with forge.lock:
                parent = forge.repository.commit(package(100 * number + version), parent=parent)
                forge.propose(number, parent, base)
            event = pull_request(forge, number, parent, base, action="synchronize" if version else "opened")
            sends = (send_until_accepted(forge, event, accepted) for _ in range(random.randint(1, MOST_TIMES)))
            await asyncio.gather(*sends)
            await asyncio.sleep(random.uniform(0.5, 3.0))

    await asyncio.gather(*(one(number) for number in range(100, 100 + pulls)))
    return accepted


async def send_until_accepted(forge: Forge, event: dict[str, Any], accepted: set[str]) -> None:
    """Under one id, as a forge sends again what failed; ids differ, as no signature covers them (W7)."""
    guid = str(uuid.uuid4())
    while not (await asyncio.to_thread(forge.send, "pull_request", event, guid=guid)).has_arrived:
        await asyncio.sleep(0.3)
    accepted.add(guid)


def package(version: int) -> dict[str, bytes]:
    """A package whose suite asks something of its own."""
    manifest = {"name": "greeter", "version": "1.0.0", "description": "d", "format": "generic", "files": ["prompt.md"]}
    asked = PROMPT.format(intent=f"{version:012x}", case=0, milliseconds=300)
    suite = {"tests": [{"input": asked, "assert": [{"type": "contains", "value": "intent"}]}]}
    return {
        "prpm.json": json.dumps(manifest).encode(),
        "prompt.md": f"Greet politely, in manner {version}.\n".encode(),
        "prpm.test.yaml": json.dumps(suite).encode(),
    }


def pull_request(forge: Forge, number: int, head: str, base: str, *, action: str) -> dict[str, Any]:
    """The event as far as it is read."""
    repository = {"id": forge.id, "full_name": forge.name, "default_branch": "main"}
    return {
        "action": action,
        "number": number,
        "pull_request": {
            "number": number,
            "draft": False,
            "updated_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "head": {"ref": "feature", "sha": head, "repo": {"id": forge.id}},
            "base": {"ref": "main", "sha": base, "repo": {"id": forge.id}},
        },
        "repository": repository,
        "installation": {"id": forge.installation_id},
        "sender": {"id": 5, "login": "ann"},
    }


async def drain(dsn: str) -> None:
    """Nothing waits or runs, at most DRAIN_SECONDS later. Pauses that are left are cut short, as nobody waits a day."""
    waiting = (
        "SELECT EXISTS (SELECT FROM deliveries WHERE state = 'received')"
        " OR EXISTS (SELECT FROM test_jobs WHERE completed_at IS NULL)"
        " OR EXISTS (SELECT FROM outbox WHERE state = 'pending')"
    )
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while await connection.fetchval(waiting):
                await connection.execute(
                    "UPDATE deliveries SET next_at = NOW() WHERE state = 'received' AND next_at > NOW()"
                    " AND lease_until IS NULL"
                )
                await connection.execute(
                    "UPDATE outbox SET next_at = NOW() WHERE state = 'pending' AND next_at > NOW()"
                )
                # Those that a dead worker held: their leases end by themselves after two minutes.
                await connection.execute(
                    "UPDATE outbox SET lease_until = LEAST(lease_until, NOW() + INTERVAL '5 s') WHERE state = 'pending'"
                )
                await asyncio.sleep(0.5)
    except TimeoutError:
        pass  # what is left is found
    finally:
        await connection.close()


async def judge(dsn: str, forge: Forge, accepted: set[str], *, seed: int) -> Tally:
    """What the harness was told against what is in the database and on the forge."""
    connection = await asyncpg.connect(dsn)
    try:
        deliveries = {
            row["delivery_id"]: row
            for row in await connection.fetch("SELECT delivery_id, state, reason FROM deliveries")
        }
        jobs = await connection.fetch(
            "SELECT change ->> 'head_sha' AS head, (change ->> 'pull_request')::INT AS pull, status FROM test_jobs"
        )
        open_jobs = sum(job["status"] not in ("completed", "failed") for job in jobs)
        charged = await connection.fetchval("SELECT COUNT(*) FROM usage_ledger WHERE kind IN ('charge', 'cached')")
        pending = await connection.fetch("SELECT state, COUNT(*) AS n FROM outbox WHERE state <> 'sent' GROUP BY state")
    finally:
        await connection.close()
    of_head = Counter(job["head"] for job in jobs)
    last_heads = {number: pull["head"]["sha"] for number, pull in forge.pulls.items()}
    checks = {number: forge.checks(head) for number, head in last_heads.items()}
    comments = {number: len(forge.reported.ours(pull=number)) for number in last_heads}
    findings = [
        *listed("accepted deliveries are lost", accepted - deliveries.keys()),
        *listed(
            "accepted deliveries were not handled",
            {f"{name}: {row['state']}, {row['reason']}" for name, row in deliveries.items()
             if row["state"] not in ("handled", "ignored")},
        ),
        *listed("heads have more than one job", {head for head, count in of_head.items() if count > 1}),
        *listed("last heads have no job", {head for head in last_heads.values() if not of_head[head]}),
        *listed("jobs have not ended", {str(n) for n in range(open_jobs)}),
        *listed("jobs and ledger entries differ", {f"{len(jobs)} and {charged}"} if len(jobs) != charged else set()),
        *listed("pull requests have not one comment", {f"{n}: {c}" for n, c in comments.items() if c != 1}),
        *listed(
            "last heads have no completed check",
            {f"{n}: {sorted((name, run['status']) for name, run in found.items())}" for n, found in checks.items()
             if not found or any(run["status"] != "completed" for run in found.values())},
        ),
        *listed("messages are left", {f"{row['n']} {row['state']}" for row in pending if row["state"] == "pending"}),
        *listed("requests that the forge refuses", set(forge.violations)),
    ]  # fmt: skip
    attempts = forge.attempts
    return Tally(
        seed=seed,
        sent=len(attempts),
        refused=dict(sorted(Counter(str(one.status) for one in attempts if not one.has_arrived).items())),
        deliveries=len(accepted),
        heads=len(last_heads),
        jobs=len(jobs),
        comments=sum(comments.values()),
        checks=sum(len(found) for found in checks.values()),
        findings=tuple(findings),
    )


def listed(what: str, which: set[str]) -> list[str]:
    """A finding, with an example; nothing for none."""
    return [f"{what}: {len(which)}, such as {min(which)}"] if which else []


def text(tally: Tally, *, is_broken: bool) -> str:
    """What a person reads."""
    lines = [
        f"## Deliveries, seed {tally.seed}: {tally.deliveries} accepted, sent {tally.sent} times",
        f"   answered otherwise, 0 for not at all: {tally.refused}",
        f"   {tally.heads} pull requests: {tally.jobs} jobs, {tally.comments} comments, {tally.checks} checks",
        *(f"{'  ' if is_broken else '❌'} {finding}" for finding in tally.findings),
    ]
    if is_broken:
        seen = any("more than one job" in finding for finding in tally.findings)
        lines.append(
            "✅ without the key of an event the harness fails, as it must" if seen
            else "❌ without the key of an event the harness saw nothing: it proves nothing"
        )  # fmt: skip
    else:
        lines.append("❌ a promise was broken" if tally.findings else "✅ each in one job, one comment and one check")
    return "\n".join(lines)


def holds(tally: Tally, *, is_broken: bool) -> bool:
    """Whether it came out as it has to."""
    return is_broken == any("more than one job" in finding for finding in tally.findings) and (
        is_broken or not tally.findings
    )


def main() -> int:
    """0 when all holds and its broken twin does not, 1 when not, 2 without a tool."""
    parser = argparse.ArgumentParser(prog="python -m chaos.webhooks", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the order of the faults; a random one by default")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"kill -9 of workers (default {KILLS})")
    parser.add_argument("--broken", action="store_true", help="only the storm without its guard, which must fail")
    wanted = parser.parse_args()
    seed = secrets.randbelow(2**32) if wanted.seed is None else wanted.seed
    try:
        found = asyncio.run(run(seed=seed, kills=wanted.kills, is_broken=wanted.broken))
    except ToolMissing as error:
        print(f"❌ {error}", file=sys.stderr)
        return 2
    print(text(found, is_broken=wanted.broken))
    return 0 if holds(found, is_broken=wanted.broken) else 1


if __name__ == "__main__":
    sys.exit(main())
