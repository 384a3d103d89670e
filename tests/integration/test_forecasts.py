"""How long a job is said to wait, against how long it waits: days in virtual time, and queues drawn by hand."""

from __future__ import annotations

import statistics
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from server.domain.queue import Pace, QueueView, RunningJob, WaitingJob
from server.services.forecasting import QueueBook, forecast
from server.services.pacing import JobTimes
from server.store import jobs
from tests.queue import a_new_job, an_account
from tests.queue_days import Forecast, QueueDay

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
A, B = uuid.UUID(int=1), uuid.UUID(int=2)


def median_error(forecasts: list[Forecast]) -> float:
    """Of waits over 10 s, as a share of the wait."""
    long = [forecast for forecast in forecasts if forecast.waited > 10]
    assert len(long) >= 50
    return statistics.median(forecast.error for forecast in long)


@pytest.mark.parametrize(
    ("seed", "tiers", "worker_slots"),
    [
        (1, ["plus"] * 14 + ["pro"] * 4 + ["enterprise"], [4, 4, 4]),
        (2, ["enterprise", "plus", "pro"], [10, 10, 10]),  # the tiers' limits bind, not the slots
    ],
)
async def test_estimated_wait__is_off_by_a_quarter_at_most_in_the_median(
    db: asyncpg.Pool, seed: int, tiers: list[str], worker_slots: list[int]
):
    await db.execute("UPDATE tiers SET runs_per_month = NULL WHERE name <> 'free'")

    day = await QueueDay(db, seed=seed, tiers=tiers, worker_slots=worker_slots).run(count=400, load=1.05)

    assert median_error(day.at_submit) <= 0.25
    assert median_error(day.at_look) <= 0.25


def a_view(*, front: list[WaitingJob], running: list[RunningJob] | None = None, slots: int = 2, **more) -> QueueView:
    """Jobs take a second a trial."""
    usual = {"arrivals": (), "jobs_behind": 0, "trials_behind": 0, "bonus_seconds": {"plus": 0.0, "pro": 120.0}}
    pace = Pace(slots=slots, job_seconds=0.0, trial_seconds=1.0)
    return QueueView(now=NOW, pace=pace, front=tuple(front), running=tuple(running or ()), **usual | more)


def waiting(account: uuid.UUID, *, trials: int, ago_seconds: float, slots: int = 2) -> WaitingJob:
    return WaitingJob(uuid.uuid4(), account, slots, trials, NOW - timedelta(seconds=ago_seconds))


def running(
    account: uuid.UUID, *, trials: int, finished: int = 0, ago_seconds: float = 0, slots: int = 2
) -> RunningJob:
    return RunningJob(uuid.uuid4(), account, slots, trials, finished, NOW - timedelta(seconds=ago_seconds))


def test_forecast__a_job_waits_for_the_slot_that_gets_free_first():
    job = waiting(A, trials=5, ago_seconds=1)

    told = forecast(a_view(front=[job], running=[running(B, trials=30), running(B, trials=10)]))

    assert told.wait(job.id, position=1) == 10
    assert told.outlook.others_seconds == {"plus": 15, "pro": 10}  # a pro job of now counts two minutes earlier


def test_forecast__an_account_at_its_limit_lets_others_pass():
    own, other = waiting(A, trials=5, ago_seconds=60, slots=1), waiting(B, trials=5, ago_seconds=1)

    told = forecast(a_view(front=[own, other], running=[running(A, trials=20, slots=1)]))

    assert (told.wait(own.id, position=1), told.wait(other.id, position=2)) == (20, 0)
    assert told.outlook.own_seconds == {str(A): 25}


def test_forecast__how_fast_a_running_job_went_counts_more_than_what_such_jobs_take():
    job = waiting(A, trials=1, ago_seconds=1)
    slow = running(B, trials=100, finished=64, ago_seconds=128)  # twice as slow as expected

    told = forecast(a_view(front=[job], running=[slow], slots=1))

    assert told.wait(job.id, position=1) == pytest.approx(0.36 * (0.2 * 100 + 0.8 * 200))


def test_forecast__jobs_behind_the_front_count_as_a_whole():
    front = [waiting(A, trials=10, ago_seconds=9), waiting(B, trials=10, ago_seconds=8)]

    told = forecast(a_view(front=front, jobs_behind=100, trials_behind=1000))

    assert told.wait(uuid.uuid4(), position=53) == pytest.approx(50 * 5, abs=10)
    assert told.outlook.others_seconds["plus"] == pytest.approx(500, abs=10)


def test_forecast__without_workers_or_pace_nothing_is_promised():
    job = waiting(A, trials=5, ago_seconds=1)

    told = forecast(a_view(front=[job], slots=0))

    assert told.wait(job.id, position=1) == 0
    assert told.outlook.others_seconds == {}


def test_forecast__knows_a_start_for_every_job_of_a_long_front():
    front = [waiting(uuid.UUID(int=n % 100), trials=1 + n % 50, ago_seconds=3000 - n) for n in range(2000)]

    told = forecast(a_view(front=front, slots=40))

    assert len(told.starts) == 2000


def test_job_times__tell_a_job_from_its_trials():
    times = JobTimes()
    for trials in (1, 10, 50, 100, 3, 40):
        times.note(trials=trials, seconds=2 + 0.5 * trials)

    estimate = times.estimate()

    assert (estimate.job, estimate.trial) == (pytest.approx(2), pytest.approx(0.5))


@pytest.mark.parametrize(
    ("noted", "expected"),
    [([], (0, 0, 0)), ([(5, 3.0), (5, 5.0)], (pytest.approx(4, rel=0.02), pytest.approx(4, rel=0.02), 0)),
     ([(1, 9.0), (9, 1.0)], (pytest.approx(5, rel=0.05), pytest.approx(5, rel=0.05), 0))],
)  # fmt: skip
def test_job_times__never_tell_less_than_nothing(noted: list[tuple[int, float]], expected: tuple[float, float, float]):
    times = JobTimes()
    for trials, seconds in noted:
        times.note(trials=trials, seconds=seconds)

    assert times.estimate() == expected


async def test_queue_book__looks_once_a_second_and_survives_an_absent_database(db: asyncpg.Pool):
    now = 100.0
    book = QueueBook(db, clock=lambda: now)
    first = await book.forecast()
    await jobs.submit_jobs(db, [a_new_job(await an_account(db))])
    assert await book.forecast() is first

    now += 1.1
    second = await book.forecast()
    assert second is not None
    assert second is not first
    await db.close()
    now += 1.1
    assert await book.forecast() is None
