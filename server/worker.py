"""The worker: holds the model pool and the vendors' keys, claims jobs and runs them; arq only nudges it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, cast

import asyncpg
import structlog
import uvloop
from arq.worker import Worker, func

from evals.agents.plugins import PluginCatalogue, load_plugins, plugin_key_variables
from evals.agents.sandbox import why_no_agents
from evals.catalogue import (
    Catalogue,
    bundled_catalogue_text,
    demo_catalogue,
    load_catalogue,
    vendor_key_variables,
)
from evals.pool import ModelPool
from server.database import connect_database, wait_for_schema
from server.logs import configure_logs
from server.reaching import look_for_missed, make_forge_access
from server.services.acting import Acting, act
from server.services.admission import Admission
from server.services.claiming import GIVE_BACK_SECONDS, ClaimLoop
from server.services.delivering import STOPPING_SECONDS
from server.services.giving_up import give_up
from server.services.handling import InboxLoop
from server.services.limits import SharedLimits
from server.services.outcome_signing import announce_key, signing_key
from server.services.retention import Keep, keep_clean
from server.services.running import Pace
from server.settings import Settings, read_settings
from server.tasks.calm_worker import CalmWorker
from server.tasks.wake import wake
from server.tasks.wakeups import ArqWakeups, connect_redis, end_task
from server.telling import make_outbox_loop, tell

log = structlog.get_logger()

WAKE_SECONDS = 0.1  # what a wake-up may take at the end; it is done in a few milliseconds


def read_catalogue(settings: Settings, environ: Mapping[str, str]) -> Catalogue:
    """The models that this worker can reach: by the operator's file, else the built-in one, else the demo model."""
    text = settings.catalogue.read_text() if settings.catalogue else bundled_catalogue_text()
    catalogue = load_catalogue(
        text, environ=environ, proxy_url=settings.litellm_proxy_url, proxy_key=settings.litellm_proxy_key
    )
    if settings.catalogue is None and not any(model.reachable for model in catalogue.describe()):
        if settings.demo_model_url is not None:
            return demo_catalogue(settings.demo_model_url)
        log.warning("no model can be reached", advice="set a vendor's key, PRPM_LITELLM_PROXY_URL or PRPM_CATALOGUE")
    return catalogue


def read_plugins(settings: Settings, environ: Mapping[str, str]) -> PluginCatalogue:
    """What agents may be given: by the operator's file, else nothing."""
    if settings.plugins is None:
        return PluginCatalogue()
    return load_plugins(settings.plugins.read_text(encoding="utf-8"), environ=environ)


def take_vendor_keys(settings: Settings, environ: MutableMapping[str, str]) -> dict[str, str]:
    """The environment as it was; the models' keys are no longer in the process's own, where a library might look."""
    text = settings.catalogue.read_text() if settings.catalogue else bundled_catalogue_text()
    before = dict(environ)
    of_plugins = plugin_key_variables(settings.plugins.read_text(encoding="utf-8")) if settings.plugins else set()
    for name in (*vendor_key_variables(text), *of_plugins, "PRPM_LITELLM_PROXY_KEY"):
        environ.pop(name, None)
    return before


async def run_worker(settings: Settings, *, environ: Mapping[str, str], stop: asyncio.Event) -> None:
    """Work until `stop` is set; then give running jobs back."""
    catalogue = read_catalogue(settings, environ)
    if why := await asyncio.to_thread(why_no_agents):
        log.info("no agents are run", reason=why)
        catalogue = catalogue.without_agents()
    plugins = read_plugins(settings, environ)
    limits = SharedLimits(connect_redis(settings.require_redis(), attempts=0))
    models = ModelPool(catalogue, limits=limits)
    preparing = asyncio.create_task(models.prepare(), name="prepare models")
    db = await connect_database(settings.require_database(), most_connections=10)
    wakeups = ArqWakeups(connect_redis(settings.require_redis()))
    key = signing_key(settings.signing_key)
    access = make_forge_access(db, settings)
    outbox = make_outbox_loop(db, settings, access)
    loop = ClaimLoop(
        db,
        models,
        wakeups,
        worker_id=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
        slots=settings.worker_jobs,
        job_concurrency=settings.job_concurrency,
        pace=Pace(lease_seconds=settings.lease_seconds, heartbeat_seconds=settings.lease_seconds / 3),
        cache_days=settings.cache_days,
        plugins=plugins,
        key=key,
        ended=outbox.nudge,
    )

    acting = Acting(db=db, access=access, admission=Admission(db), wakeups=wakeups)
    inbox = InboxLoop(db, functools.partial(act, acting), give_up=functools.partial(give_up, db))

    async def claim() -> None:
        await wait_for_schema(db)
        await announce_key(db, key)
        log.info("worker started", jobs=settings.worker_jobs)
        await loop.run()

    async def handle_deliveries() -> None:
        await wait_for_schema(db)
        await inbox.run()

    try:
        await wakeups.start()
        work = [
            asyncio.create_task(claim(), name="claims"),
            asyncio.create_task(
                listen_for_wakeups(settings.require_redis(), (loop.nudge, inbox.nudge, outbox.nudge)), name="arq"
            ),
            asyncio.create_task(handle_deliveries(), name="inbox"),
            asyncio.create_task(keep_clean(db, what_to_keep(settings)), name="retention"),
        ]
        if settings.notify_from == "worker":
            work.append(asyncio.create_task(tell(db, outbox), name="outbox"))
            work.append(asyncio.create_task(look_for_missed(db, access), name="missed deliveries"))
        await _first_of(stop, work)
        if not stop.is_set():
            log.error("worker lost a part", parts=[task.get_name() for task in work if task.done()])
        claims, *others = work
        await asyncio.gather(
            end_task(claims, patience_seconds=GIVE_BACK_SECONDS + 1),
            # A message that is on its way has a moment to arrive.
            *(end_task(task, patience_seconds=STOPPING_SECONDS + 1) for task in others if task.get_name() == "outbox"),
            *(end_task(task, patience_seconds=0.2) for task in others if task.get_name() != "outbox"),
        )
    finally:
        preparing.cancel()
        await wakeups.aclose()
        await models.aclose()
        await access.aclose()
        await _close(db)
        log.info("worker stopped")


def what_to_keep(settings: Settings) -> Keep:
    """How long the settings want things kept."""
    return Keep(
        trials_days=settings.keep_trials_days,
        outcomes_days=settings.keep_outcomes_days,
        uploads_days=settings.keep_uploads_days,
        keys_days=settings.keep_keys_days,
        history_days=settings.keep_history_days,
        outbox_days=settings.keep_notifications_days,
        cache_days=settings.cache_days,
        deliveries_days=settings.keep_deliveries_days,
    )


async def listen_for_wakeups(redis_url: str, nudges: Sequence[Callable[[], None]]) -> None:
    """Run arq's worker, and again when it ends: it does not survive a restart of Redis by itself."""
    pause = 0.1
    while True:
        redis = connect_redis(redis_url)
        worker = CalmWorker(
            functions=[func(cast(Any, wake), timeout=5, keep_result=0)],
            redis_pool=redis,
            handle_signals=False,
            max_jobs=50,
            max_tries=100,
            keep_result=0,
            queue_read_limit=2000,
            health_check_interval=10,
            log_results=False,
            job_deserializer=redis.job_deserializer,
            job_serializer=redis.job_serializer,
        )
        worker.ctx["nudges"] = (worker.heard, *nudges)
        began = time.monotonic()
        try:
            await worker.async_run()
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            # One that nobody asked for is that of a task of arq's own, and no reason for the worker to end.
            log.warning("arq ended", reason="CancelledError")
        except Exception as error:  # noqa: BLE001 - whatever ends arq, jobs go on and it is started again
            log.warning("arq ended", reason=type(error).__name__)
        finally:
            await asyncio.shield(_close_arq(worker))
        if _is_cancelled():
            return
        # What was nudged meanwhile may be lost.
        for nudge in nudges:
            nudge()
        pause = 0.1 if time.monotonic() - began > 10 else min(pause * 2, 5.0)
        await asyncio.sleep(pause)


async def _close_arq(worker: Worker) -> None:
    """Whoever waits for this may be cancelled meanwhile, so nothing is raised that would be nobody's."""
    # Cancelled in the middle of a command a task leaves its connection open, about which redis complains at the end.
    if worker.tasks:
        await asyncio.wait(worker.tasks.values(), timeout=WAKE_SECONDS)
    with contextlib.suppress(Exception, asyncio.CancelledError):  # it waits for tasks that it cancels itself
        await worker.close()


def _is_cancelled() -> bool:
    """Whether this task was asked to end. A client that is just connecting may turn that into its own error."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _first_of(stop: asyncio.Event, work: list[asyncio.Task[None]]) -> None:
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopped, *work], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()


async def _close(db: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(2):
            await db.close()
    except TimeoutError:
        db.terminate()


def main() -> None:
    """Run a worker process until SIGTERM or Ctrl-C."""
    settings = read_settings()
    configure_logs(settings)
    environ = take_vendor_keys(settings, os.environ)

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await run_worker(settings, environ=environ, stop=stop)

    uvloop.run(serve())
