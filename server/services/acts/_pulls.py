"""What acts on pull and merge requests share: who is a stranger, what is approved, and the run of the present head."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import UNSET, Struct

from server.domain.change_heads import ChangeLine, Gone, pull_line
from server.domain.changes import Change
from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import Event
from server.domain.repository_rules import InvalidRules, Rules
from server.forges import CannotRead, Proposed
from server.services.acts import Acting
from server.services.change_jobs import LISTED, Only, Order, Report
from server.services.change_runs import refuse, refuse_rules, run_change, tell
from server.services.fetching import Budget, Reader, TooMuch
from server.services.linking import find_link
from server.services.ruling import rules_for, rules_of
from server.services.superseding import OTHER_BASE, let_go
from server.store import change_heads

CLOSED = "It is closed or merged."
HELP = (
    "Write one of these in a comment, at the start of a line:\n"
    "/prpm test: test again\n"
    "/prpm test MODEL MODEL: test on these models\n"
    "/prpm cancel: end what waits or runs\n"
    "/prpm help: this list\n"
    "They are for people who may write to this repository."
)


class Pull(Struct, frozen=True, kw_only=True):
    """A pull or merge request as its forge shows it now."""

    reader: Reader
    line: ChangeLine
    now: Proposed

    @property
    def is_from_fork(self) -> bool:
        """Whether its head is another repository's; one that is gone is nobody's, and so a stranger's."""
        return self.now.head_repository_id != self.reader.link.repository.id

    def change(self, *, cause: str, head_sha: str | None = None, base_sha: str | None = None) -> Change:
        """Its head, or another commit that was, as a run's change."""
        repository = self.reader.link.repository
        return Change(
            forge=repository.forge,
            repository=repository.name,
            repository_id=repository.id,
            ref=self.now.head_ref,
            head_sha=head_sha or self.now.head_sha,
            base_ref=self.now.base_ref,
            base_sha=base_sha or self.now.base_sha or UNSET,
            pull_request=self.now.number,
            cause=cause,
        )


async def open_reader(acting: Acting, event: Event, delivery: ClaimedDelivery) -> Reader:
    """The event's repository, by the account that it is linked to. Raises NotLinked, TryLater."""
    link = await find_link(
        acting.db, acting.access, event.repository, installation_id=event.installation_id, hook_id=delivery.hook_id
    )
    return Reader(acting.access, link, budget=Budget(tries=delivery.attempts, seconds=acting.fetch_seconds))


async def look_at(reader: Reader, number: int) -> Pull:
    """The pull request as it is now. Raises TryLater, CannotRead."""
    link = reader.link
    return Pull(
        reader=reader, line=pull_line(link.forge, link.repository.id, number), now=await reader.proposed(number)
    )


async def run_pull(
    acting: Acting,
    pull: Pull,
    *,
    cause: str,
    head_sha: str | None = None,
    models: tuple[str, ...] | None = None,
    only: Only | None = None,
    drafts: bool = True,
) -> Ended:
    """Its packages are run at this head (None: the one that it has now). A stranger's only where that head is approved.

    `drafts` False leaves out a draft, unless the rules want them. A head that is the present one has to be so until it
    is submitted. Raises TryLater.
    """
    reader, sha = pull.reader, head_sha or pull.now.head_sha
    change = pull.change(cause=cause, head_sha=sha)
    try:
        rules = await rules_for(reader, pull.now.base_ref)
        between = await reader.touched(await reader.branch_head(pull.now.base_ref), sha)
    except InvalidRules as error:
        return await refuse_rules(acting, reader, change, error)
    except (CannotRead, TooMuch) as reason:
        return await refuse(acting, reader, change, title="The change cannot be read", reason=str(reason))
    if pull.now.is_draft and not drafts and not rules.drafts:
        words = "This is a draft. It is tested when it is ready for review, or by `/prpm test` in a comment."
        await tell(acting, reader, change, Report(state="neutral", title="A draft", summary=words), rules=rules)
        return Ended("handled", "A draft is tested when it is ready.")
    if pull.is_from_fork and await change_heads.read_approval(acting.db, pull.line, sha) is None:
        return await ask_for_approval(acting, pull, change, rules)
    order = Order(
        line=pull.line,
        change=pull.change(cause=cause, head_sha=sha, base_sha=between.base_sha),
        rules=rules,
        base_sha=between.base_sha,
        models=models,
        fork=rules.forks if pull.is_from_fork else None,
        only=only,
        is_partial=only is not None,
        warning=await broken_rules(reader, sha),
    )
    return await run_change(acting, reader, order, is_current=_stays(acting, pull, sha, is_old=head_sha is not None))


async def broken_rules(reader: Reader, sha: str) -> Report | None:
    """A change that would leave rules which let nothing through is told so before it is merged."""
    try:
        await rules_of(reader, await reader.commit(sha))
    except InvalidRules as error:
        words = "\n".join(["Merged, they would let no later change through.", *error.details[:LISTED]])
        return Report(state="failure", title="This change breaks the repository's rules", summary=words)
    except (CannotRead, TooMuch):
        pass  # the run says so
    return None


async def leave_other_branches(acting: Acting, pull: Pull) -> None:
    """What waits or runs for a branch that the change is not for any more is over. Safe to call twice."""
    link = pull.reader.link
    gone = Gone(link.forge, link.repository.id, pull_request=pull.now.number, base_ref=pull.now.base_ref)
    await let_go(acting.db, link, gone, head=pull.change(cause="head"), reason=OTHER_BASE)


def _stays(acting: Acting, pull: Pull, sha: str, *, is_old: bool) -> Callable[[], Awaitable[bool]]:
    """Whether the head is still what was looked at, for the same branch, and approved."""

    async def is_current() -> bool:
        if not is_old:
            now = await pull.reader.proposed(pull.now.number)
            if not now.is_open or now.head_sha != sha or now.base_ref != pull.now.base_ref:
                return False
        return not pull.is_from_fork or await change_heads.read_approval(acting.db, pull.line, sha) is not None

    return is_current


async def ask_for_approval(acting: Acting, pull: Pull, change: Change, rules: Rules) -> Ended:
    """The check says who has to do what before a stranger's change is tested."""
    words = (
        "This change comes from a fork, so nothing is spent on it before somebody who may write to this repository "
        f"has looked at it: comment `/prpm test`, or set the label `{_shown(rules.forks.label)}`. "
        "That holds for this commit alone; each push asks again."
    )
    report = Report(state="action_required", title="Waits for approval", summary=words)
    await tell(acting, pull.reader, change, report, rules=rules)
    return Ended("handled", "A stranger's change waits for approval.")


def _shown(label: str) -> str:
    return label.replace("`", "'")


def is_robot(login: str) -> bool:
    """Whether the name is one that programs have: nobody's command."""
    name = login.lower()
    return name.endswith("[bot]") or (name.startswith(("project_", "group_")) and "_bot" in name)
