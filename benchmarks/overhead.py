"""What the service adds to a job whose model answers at once, with one, two and four workers and as many clients."""

from __future__ import annotations

import contextlib
import http.client
from concurrent.futures import ThreadPoolExecutor

from benchmarks.service import WARM_UP_JOBS, Latency, Site, one_bare_job, one_job, open_site, timed
from benchmarks.tables import Line, Table

WORKERS = (1, 2, 4)
JOBS = 120  # of each client
AGAINST = "bare handler: one INSERT, one GET"


def measure() -> Table:
    """Each number of workers on a site of its own, its control by turns on the same."""
    lines: list[Line] = []
    for workers in WORKERS:
        with open_site(workers=workers) as site:
            jobs, bare = measure_clients(site, clients=workers)
        named = f"{workers} worker{'s' if workers > 1 else ''}"
        lines += [
            Line(
                what=f"{named}, {share:.0%} of jobs within".replace("50%", "half"),
                measured=jobs.percentile(share), against=AGAINST, control=bare.percentile(share), unit="ms",
            )
            for share in (0.5, 0.99)
        ]  # fmt: skip
    return Table(
        title="overhead",
        how=f"One API process, PostgreSQL with fsync, the echo model. As many clients as workers; each sends {JOBS} "
        "jobs of one case one after the other, polls every 5 ms, and takes the control by turns. Submit to completed.",
        lines=tuple(lines),
    )


def measure_clients(site: Site, *, clients: int) -> tuple[Latency, Latency]:
    """All clients' jobs and controls."""
    with ThreadPoolExecutor(clients) as threads:
        found = list(threads.map(lambda number: one_client(site, number), range(clients)))
    return (
        Latency([figure for jobs, _ in found for figure in jobs]),
        Latency([figure for _, bare in found for figure in bare]),
    )


def one_client(site: Site, number: int) -> tuple[list[float], list[float]]:
    """Milliseconds of this client's jobs and of its controls; an account of its own for each job."""
    service = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    bare = http.client.HTTPConnection("127.0.0.1", site.bare_port, timeout=30)
    jobs, controls = [], []
    with contextlib.closing(service), contextlib.closing(bare):
        for turn in range(WARM_UP_JOBS + JOBS):
            token = site.tokens[(number * (WARM_UP_JOBS + JOBS) + turn) % len(site.tokens)]
            job = timed(lambda token=token: one_job(service, token))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            control = timed(lambda: one_bare_job(bare))
            if turn >= WARM_UP_JOBS:
                jobs.append(job)
                controls.append(control)
    return jobs, controls
