"""Cases for a job whose package has none: a model writes them, once for the same files and account."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from evals.archives import read_archive
from evals.choosing import AUTO
from evals.generating import CannotGenerate, generate_suite
from evals.packages import read_package
from evals.pool import ModelPool
from evals.suites import parse_suite_value, suite_digest
from evals.types import Instructions, Suite
from server.domain.jobs import ClaimedJob, SentSuite
from server.services.publishing import encode_canonical, trials_a_model


class Written(NamedTuple):
    """A suite and the model that wrote it."""

    suite: SentSuite
    model: str


def lacks_cases(job: ClaimedJob) -> bool:
    """Whether the job's cases are still to be written."""
    return job.suite_source == "generated" and not msgspec.json.decode(job.suite_body, type=Suite).cases


async def write_suite(job: ClaimedJob, archive: bytes, *, models: ModelPool) -> Written:
    """Written by the first model that the job names, or by the default one where it leaves the choice.

    Raises CannotGenerate, CapReached, and EngineError for a package that cannot be read.
    """
    model = models.catalogue.default if job.models == (AUTO,) else job.models[0]
    if not models.catalogue.resolve(model).can_judge:
        raise CannotGenerate(f"The model {model} is too small to write cases; name another one first.")
    instructions = await asyncio.to_thread(_instructions, archive, job)
    generated = await generate_suite(instructions, model=model, pool=models)
    suite = await asyncio.to_thread(parse_suite_value, generated.value, path="generated")
    body = encode_canonical(suite).decode()
    return Written(
        SentSuite(id=suite_digest(suite), body=body, trials=trials_a_model(suite), source="generated"), model
    )


def _instructions(archive: bytes, job: ClaimedJob) -> Instructions:
    return read_package(
        read_archive(archive),
        name=job.package_name,
        version=job.package_version,
        format=job.format,
        subtype=job.subtype,
    ).instructions


def origin_note(job: ClaimedJob, suite: Suite) -> str | None:
    """A sentence on where the cases come from, if not from the package's author."""
    count = len(suite.cases)
    cases = f"{count} case" if count == 1 else f"{count} cases"
    if job.suite_source == "registry":
        are = "is" if count == 1 else "are"
        return f"The package has no tests of its own; the registry's {cases} {are} run."
    if job.suite_source == "generated":
        were, them = ("was", "it") if count == 1 else ("were", "them")
        return (
            f"The {cases} of this run {were} generated: {suite.generated_by or 'a model'} wrote {them} from the "
            f"package's text, and nobody has checked {them}."
        )
    return None
