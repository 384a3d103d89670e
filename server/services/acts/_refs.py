"""What acts on branches and tags share: a run of a commit that is in the repository for good."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from msgspec import UNSET

from server.domain.change_heads import ChangeLine
from server.domain.changes import Change
from server.domain.deliveries import Ended
from server.domain.jobs import Cause
from server.domain.repository_rules import InvalidRules
from server.forges import CannotRead
from server.services.acts import Acting
from server.services.change_jobs import Only, Order
from server.services.change_runs import nothing_newer, refuse, refuse_rules, run_change
from server.services.fetching import Reader, TooMuch
from server.services.finding import Touched, Wanted
from server.services.ruling import rules_for


def change_of(reader: Reader, line: ChangeLine, *, head_sha: str, base_sha: str | None, cause: str) -> Change:
    """The commit as a run's change: of a branch or a tag, without a pull request."""
    repository = reader.link.repository
    return Change(
        forge=repository.forge,
        repository=repository.name,
        repository_id=repository.id,
        ref=line.ref,
        head_sha=head_sha,
        base_sha=base_sha or UNSET,
        cause=cause,
    )


TAG_REF = "refs/tags/"
# `1.2.0`, `v1.2.0`, `name@1.2.0`, `name-v1.2.0`, `name/v1.2.0`, `@scope/name@1.2.0`
VERSION_TAG = re.compile(
    r"(?:(?P<name>@?[a-z0-9][a-z0-9/-]*?)(?:@|[-/](?=v)))?v?(?P<version>\d+\.\d+\.\d+[0-9A-Za-z.+-]*)"
)


def meant_by(tag: str) -> Only:
    """Packages whose version the tag names; all of them for a tag that names none."""
    named = VERSION_TAG.fullmatch(tag)

    def is_meant(touched: Touched) -> bool:
        if named is None or not isinstance(touched.after, Wanted):
            return True
        fits_name = not named["name"] or touched.name.rpartition("/")[2] == named["name"].rpartition("/")[2]
        return fits_name and touched.after.version in (None, named["version"])

    return is_meant


async def if_there(reader: Reader, sha: str | None) -> str | None:
    """The commit, if the forge still has it: a forced push leaves the head before nowhere."""
    try:
        return (await reader.commit(sha)).sha if sha else None
    except CannotRead:
        return None


async def run_ref(
    acting: Acting,
    reader: Reader,
    line: ChangeLine,
    *,
    head_sha: str,
    base_sha: str | None,
    cause: str,
    is_current: Callable[[], Awaitable[bool]] | None = None,
    only: Only | None = None,
    is_partial: bool = False,
    nothing: str = "No package is touched by this push, so there is nothing to test.",
    job_cause: Cause = "baseline",
    may_upload: bool = False,
) -> Ended:
    """The packages that differ from the base (None: all of them) are run, past every cache. Raises TryLater.

    `is_partial`: `only` leaves out what is part of the commit's sum.
    """
    change = change_of(reader, line, head_sha=head_sha, base_sha=base_sha, cause=cause)
    try:
        rules = await rules_for(reader, reader.link.repository.default_branch, at=head_sha)
    except InvalidRules as error:
        return await refuse_rules(acting, reader, change, error)
    except (CannotRead, TooMuch) as reason:
        return await refuse(acting, reader, change, title="The commit cannot be read", reason=str(reason))
    order = Order(
        line=line,
        change=change,
        rules=rules,
        base_sha=base_sha,
        job_cause=job_cause,
        only=only,
        is_partial=is_partial,
        nothing=nothing,
        uploads=may_upload and rules.upload_tags,
    )
    return await run_change(acting, reader, order, is_current=is_current or nothing_newer())
