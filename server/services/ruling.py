"""Which rules hold for a change: those of the branch that it is for, and of the default branch."""

from __future__ import annotations

from server.domain.repository_rules import MAX_BYTES, PLACES, InvalidRules, Rules, read_rules
from server.services.fetching import Commit, Reader


async def rules_for(reader: Reader, branch: str, *, at: str | None = None) -> Rules:
    """The rules of the branch as it is now, or at a commit. Raises InvalidRules, and what Reader raises."""
    default = reader.link.repository.default_branch
    rules = await rules_of(reader, await reader.commit(at or await reader.branch_head(branch)))
    if not default or (default == branch and at is None):
        return rules
    of_default = await rules_of(reader, await reader.commit(await reader.branch_head(default)))
    return rules.with_default_branch(of_default)


async def rules_of(reader: Reader, commit: Commit) -> Rules:
    """The rules in the commit. Raises InvalidRules, and what Reader raises."""
    for place in PLACES:
        entry = commit.entries.get(place)
        if entry is None:
            continue
        if entry.kind != "file" or entry.bytes > MAX_BYTES:
            raise InvalidRules((f"{place}: must be a file of at most {MAX_BYTES // 1000} kB.",))
        return read_rules((await reader.contents([entry]))[place], place=place)
    return Rules()
