"""Workers in PostgreSQL."""

from __future__ import annotations

import asyncpg
import msgspec

from server.domain.models import AnnouncedModel
from server.domain.queue import JobTime
from server.store.queries import read_queries

SQL = read_queries("workers")


async def announce_worker(
    db: asyncpg.Pool, worker_id: str, *, slots: int, job_time: JobTime, models: tuple[AnnouncedModel, ...]
) -> None:
    """Say that the worker lives. Called every few seconds."""
    await db.execute(
        SQL["announce_worker"],
        worker_id, slots, job_time.mean, msgspec.json.encode(models).decode(), job_time.job, job_time.trial,
    )  # fmt: skip


async def retire_worker(db: asyncpg.Pool, worker_id: str) -> None:
    await db.execute(SQL["retire_worker"], worker_id)


async def forget_workers(db: asyncpg.Pool) -> None:
    await db.execute(SQL["forget_workers"])


async def read_models(db: asyncpg.Pool) -> tuple[AnnouncedModel, ...]:
    """What any live worker can reach; without a live one, what the last one could; empty if there never was one."""
    rows = await db.fetch(SQL["read_models"])
    live = [row for row in rows if row["is_live"]] or rows[:1]
    models: dict[str, AnnouncedModel] = {}
    for row in live:
        for model in msgspec.json.decode(row["models"], type=tuple[AnnouncedModel, ...]):
            if model.name not in models or (model.reachable and not models[model.name].reachable):
                models[model.name] = model
    return tuple(models.values())


async def is_any_worker_live(db: asyncpg.Pool) -> bool:
    return bool(await db.fetchval(SQL["is_any_worker_live"]))
