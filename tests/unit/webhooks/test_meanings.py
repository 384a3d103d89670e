"""What deliveries mean: recorded payloads, and others of the same kinds derived from them."""

from __future__ import annotations

from typing import Any

import pytest

from server.domain.events import (
    BranchPushed,
    ChangeProposed,
    CheckAskedAgain,
    CommentMade,
    GroupDissolved,
    GroupFormed,
    LabelSet,
    LinkChanged,
    Ping,
    Repository,
    TagPushed,
    Uninteresting,
)
from server.webhooks import SOURCES
from tests.contracts.test_sources import meaning_or_trouble
from tests.webhooks import a_payload, encoded

HEAD = "1" * 40
ZEROS = "0" * 40
HELLO = Repository(forge="github", id=186853002, name="Codertocat/Hello-World", default_branch="master")


def github(event: str, payload: Any):
    return SOURCES["github"].read(event, encoded(payload))


def gitlab(payload: Any):
    return SOURCES["gitlab"].read("", encoded(payload))


@pytest.mark.parametrize(
    ("action", "proposal"),
    [("opened", "opened"), ("synchronize", "updated"), ("reopened", "reopened"), ("ready_for_review", "ready")],
)
def test_github__a_pull_requests_head_is_to_be_tested(action: str, proposal: str):
    found = github("pull_request", a_payload("github/pull_request.opened", action=action))

    assert isinstance(found, ChangeProposed)
    assert (found.action, found.repository, found.number) == (proposal, HELLO, 2)
    assert (found.head_ref, found.base_ref) == ("changes", "master")
    assert len(found.head_sha) == len(found.base_sha) == 40
    assert not found.is_from_fork


@pytest.mark.parametrize("action", ["closed", "edited", "assigned", "", "unlabeled"])
def test_github__W17_other_actions_start_nothing(action: str):
    assert isinstance(github("pull_request", a_payload("github/pull_request.opened", action=action)), Uninteresting)


def test_github__an_edit_counts_when_it_is_for_another_branch_now():
    def edited(**changes: Any):
        payload = a_payload("github/pull_request.opened", action="edited", changes=changes)
        payload["pull_request"]["updated_at"] = "2026-11-23T10:00:00Z"
        return github("pull_request", payload)

    assert isinstance(edited(title={"from": "x"}), Uninteresting)
    found = edited(base={"ref": {"from": "develop"}, "sha": {"from": HEAD}})
    assert isinstance(found, ChangeProposed)
    assert (found.action, found.cause) == ("retargeted", "base:2026-11-23T10:00:00+00:00:master")
    assert github("pull_request", a_payload("github/pull_request.opened")).cause == "head"


@pytest.mark.parametrize("head_repo", [{"id": 7}, None])
def test_github__W20_a_head_elsewhere_is_a_fork(head_repo: dict[str, int] | None):
    found = github("pull_request", a_payload("github/pull_request.opened", pull_request__head__repo=head_repo))

    assert isinstance(found, ChangeProposed)
    assert found.is_from_fork


def test_github__a_label_counts_for_the_head_that_it_was_put_on():
    payload = a_payload(
        "github/pull_request.opened", action="labeled", label={"name": "prpm-test"}, pull_request__head__sha=HEAD
    )

    found = github("pull_request", payload)

    assert isinstance(found, LabelSet)
    assert (found.labels, found.head_sha, found.author) == (("prpm-test",), HEAD, "Codertocat")


def test_github__pushes_are_branches_tags_or_nothing():
    new = github("push", a_payload("github/push.new_branch"))
    later = github("push", a_payload("github/push.new_branch", before=HEAD))
    tag = github(
        "push",
        a_payload("github/push.new_branch", ref="refs/tags/v1.0.0", after="a" * 40, head_commit__id=HEAD),
    )
    light = github("push", a_payload("github/push.new_branch", ref="refs/tags/v1", after=HEAD, head_commit=None))
    gone = github("push", a_payload("github/push.new_branch", deleted=True, after=ZEROS))
    unsaid = github("push", a_payload("github/push.new_branch", deleted=None, after=ZEROS))
    notes = github("push", a_payload("github/push.new_branch", ref="refs/notes/x"))

    assert isinstance(new, BranchPushed)
    assert (new.branch, new.before, new.is_default) == ("master", "", True)
    assert isinstance(later, BranchPushed)
    assert later.before == HEAD
    assert isinstance(tag, TagPushed)
    assert (tag.tag, tag.sha) == ("v1.0.0", HEAD)  # the commit, not the annotated tag's own object
    assert isinstance(light, TagPushed)
    assert light.sha == HEAD
    assert isinstance(unsaid, Uninteresting)
    assert isinstance(gone, Uninteresting)
    assert isinstance(notes, Uninteresting)


def test_github__a_check_is_asked_for_again():
    found = github("check_run", a_payload("github/check_run.rerequested"))

    assert isinstance(found, CheckAskedAgain)
    assert (found.asked, found.check_id, found.head_sha[:7]) == ("check_run:4", 4, "d6fde92")
    assert found.installation_id is not None


def test_github__a_suite_that_is_asked_for_twice_is_two_wishes():
    def asked(at: str):
        suite = {"id": 5, "head_sha": HEAD, "updated_at": at}
        return github("check_suite", a_payload("github/check_run.rerequested") | {"check_suite": suite})

    first, second = asked("2026-11-01T00:00:00Z"), asked("2026-11-01T00:01:00Z")

    assert isinstance(first, CheckAskedAgain)
    assert isinstance(second, CheckAskedAgain)
    assert first.asked != second.asked


def test_github__comments_count_on_pull_requests_alone():
    on_issue = github("issue_comment", a_payload("github/issue_comment.created"))
    payload = a_payload("github/issue_comment.created", issue__pull_request={}, comment__body="/prpm test")
    on_pull = github("issue_comment", payload)
    edited = github("issue_comment", payload | {"action": "edited"})

    assert isinstance(on_issue, Uninteresting)
    assert isinstance(on_pull, CommentMade)
    assert (on_pull.text, on_pull.author, on_pull.author_id) == ("/prpm test", "Codertocat", 21031067)
    assert isinstance(edited, Uninteresting)


@pytest.mark.parametrize(
    ("action", "word"),
    [("created", "installed"), ("deleted", "uninstalled"), ("suspend", "suspended"), ("unsuspend", "unsuspended")],
)
def test_github__installations_come_and_go(action: str, word: str):
    found = github("installation", a_payload("github/installation.created", action=action))

    assert isinstance(found, LinkChanged)
    assert (found.word, found.installation_id, found.owner) == (word, 957387, "Codertocat")
    assert found.repositories[0].name == "Codertocat/Hello-World"


@pytest.mark.parametrize("word", ["added", "removed"])
def test_github__repositories_of_an_installation_come_and_go(word: str):
    payload = a_payload("github/installation.created", action=word)
    payload[f"repositories_{word}"] = [{"id": 9, "full_name": "a/b"}]

    found = github("installation_repositories", payload)

    assert isinstance(found, LinkChanged)
    assert [repository.id for repository in found.repositories] == [9]


@pytest.mark.parametrize("word", ["renamed", "transferred", "deleted"])
def test_github__W19_a_repository_has_another_name_or_none(word: str):
    found = github("repository", a_payload("github/push.new_branch") | {"action": word})

    assert isinstance(found, LinkChanged)
    assert (found.word, found.repositories) == (word, (HELLO,))


def test_github__W17_a_ping_and_unknown_events_are_no_errors():
    assert github("ping", a_payload("github/ping.repository")) == Ping()
    assert isinstance(github("sponsorship", {"any": "thing"}), Uninteresting)
    assert isinstance(github("", b""), Uninteresting)


@pytest.mark.parametrize("action", ["open", "reopen"])
def test_gitlab__a_merge_requests_head_is_to_be_tested(action: str):
    found = gitlab(a_payload("gitlab/merge_request", object_attributes__action=action))

    assert isinstance(found, ChangeProposed)  # whatever labels it lists as changed
    assert found.repository == Repository(forge="gitlab", id=1, name="gitlabhq/gitlab-test", default_branch="master")
    assert (found.number, found.head_ref, found.base_ref) == (1, "ms-viewport", "master")
    assert found.head_sha == "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
    assert found.is_from_fork  # project 14 proposes to project 1


def test_gitlab__an_update_counts_when_the_code_changed_or_it_is_no_draft_any_more():
    def updated(**changes: Any):
        return gitlab(a_payload("gitlab/merge_request", object_attributes__action="update", **changes))

    assert isinstance(updated(changes={}), Uninteresting)
    code = updated(changes={}, object_attributes__oldrev=HEAD)
    ready = updated(changes={"draft": {"previous": True, "current": False}}, object_attributes__draft=False)
    labelled = updated(changes={"labels": {"previous": [], "current": [{"title": "prpm-test"}]}})
    assert isinstance(code, ChangeProposed)
    assert code.action == "updated"
    assert isinstance(ready, ChangeProposed)
    assert ready.action == "ready"
    target = updated(changes={"target_branch": {"previous": "develop", "current": "master"}})
    assert isinstance(target, ChangeProposed)
    assert target.action == "retargeted"
    assert isinstance(labelled, LabelSet)
    assert (labelled.labels, labelled.proposed) == (("prpm-test",), None)


def test_gitlab__one_update_tells_of_all_its_labels_and_of_what_it_changed_besides():
    labels = {"previous": [{"title": "API"}], "current": [{"title": t} for t in ("API", "prpm-test", "bug")]}
    changes = {"labels": labels, "draft": {"previous": True, "current": False}}

    found = gitlab(a_payload("gitlab/merge_request", object_attributes__action="update", changes=changes))

    assert isinstance(found, LabelSet)
    assert found.labels == ("bug", "prpm-test")
    assert found.proposed is not None
    assert found.proposed.action == "ready"


def test_gitlab__W20_a_push_is_a_push_though_all_labels_are_listed_as_new():
    """Some servers list the labels that a merge request has beside each push: one would approve what it pushed."""
    found = gitlab(
        a_payload(
            "gitlab/merge_request",
            object_attributes__action="update",
            object_attributes__oldrev=HEAD,
            changes={"labels": {"previous": [], "current": [{"title": "prpm-test"}]}},
        )
    )

    assert isinstance(found, ChangeProposed)
    assert found.action == "updated"


@pytest.mark.parametrize("project", [1, 14])
def test_gitlab__ready_and_labelled_at_once_says_both(project: int):
    """Of a fork it is the label, which approves and runs; of a branch of the project it is that it is ready."""
    found = gitlab(
        a_payload(
            "gitlab/merge_request",
            object_attributes__action="update",
            object_attributes__source_project_id=project,
            changes={
                "labels": {"previous": [], "current": [{"title": "prpm-test"}]},
                "draft": {"previous": True, "current": False},
            },
        )
    )

    assert isinstance(found, LabelSet)
    assert found.proposed is not None
    assert (found.labels, found.proposed.action) == (("prpm-test",), "ready")


@pytest.mark.parametrize(
    ("before", "after", "proposal"),
    [
        ("Draft: polite", "polite", "ready"),
        ("[Draft] polite", "polite", "ready"),
        ("WIP: polite", "polite", "ready"),
        ("drafty", "polite", None),
        ("polite", "Draft: polite", None),
        ("Draft: polite", "Draft: very polite", None),
    ],
)
def test_gitlab__a_draft_is_known_by_its_title_where_nothing_else_says_it(
    before: str, after: str, proposal: str | None
):
    is_draft = after.startswith("Draft")
    found = gitlab(
        a_payload(
            "gitlab/merge_request",
            object_attributes__action="update",
            object_attributes__work_in_progress=is_draft,
            changes={"title": {"previous": before, "current": after}},
        )
    )

    assert getattr(found, "action", None) == proposal


def test_gitlab__pushes_are_branches_tags_or_nothing():
    branch = gitlab(a_payload("gitlab/push"))
    tag = gitlab(a_payload("gitlab/push", object_kind="tag_push", ref="refs/tags/v1", before=ZEROS, checkout_sha=HEAD))
    light = gitlab(a_payload("gitlab/push", object_kind="tag_push", ref="refs/tags/v1", checkout_sha=None))
    elsewhere = gitlab(a_payload("gitlab/push", ref="refs/keep-around/x"))
    gone = gitlab(a_payload("gitlab/push", after=ZEROS))

    assert isinstance(branch, BranchPushed)
    assert (branch.branch, branch.is_default, branch.before[:7]) == ("master", True, "95790bf")
    assert isinstance(tag, TagPushed)
    assert tag.sha == HEAD  # the commit, not the annotated tag's own object
    assert isinstance(light, TagPushed)
    assert light.sha == "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
    assert isinstance(elsewhere, Uninteresting)
    assert isinstance(gone, Uninteresting)


def test_gitlab__notes_count_on_merge_requests_alone():
    merge_request = a_payload("gitlab/merge_request")
    note = {
        "object_kind": "note",
        "project": merge_request["project"],
        "user": {"id": 5, "username": "root"},
        "object_attributes": {"id": 1241, "note": "/prpm cancel", "noteable_type": "MergeRequest", "action": "create"},
        "merge_request": merge_request["object_attributes"],
    }
    found = gitlab(note)

    assert isinstance(found, CommentMade)
    assert (found.text, found.author_id, found.number) == ("/prpm cancel", 5, 1)
    on_commit = note | {
        "object_attributes": note["object_attributes"] | {"noteable_type": "Commit"},
        "merge_request": None,
    }
    by_gitlab = note | {"object_attributes": note["object_attributes"] | {"system": True}}
    older = {"id": 1241, "note": "/prpm test", "noteable_type": "MergeRequest", "created_at": "2026-01-01 00:00:00 UTC"}
    made, edited = ({"updated_at": f"2026-01-0{day} 00:00:00 UTC"} for day in (1, 2))
    assert isinstance(gitlab(note | {"object_attributes": older | made}), CommentMade)
    assert isinstance(gitlab(note | {"object_attributes": older | edited}), Uninteresting)
    assert isinstance(gitlab(on_commit), Uninteresting)
    assert isinstance(gitlab(by_gitlab), Uninteresting)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"7", b"NaN", b'{"a": NaN}', b"\xef\xbb\xbf{}", b"\xff", b'{"object_kind": 7}',
        b'{"action": "opened"}', b'{"object_kind": "push"}', b"[" * 100_000, b'{"a":' * 100_000,
        b'{"object_kind": "push", "project": {"id": "x"}}',
    ],
)  # fmt: skip
def test_source__W13_W14_what_is_no_payload_is_invalid_or_uninteresting(source: str, body: bytes):
    event = "pull_request" if source == "github" else ""

    found = meaning_or_trouble(source, event, body)

    assert isinstance(found, Uninteresting) or str(found).startswith("The payload ")


def test_source__W15_of_a_key_that_stands_there_twice_the_last_counts():
    body = encoded(a_payload("github/push.new_branch", installation={"id": 1}))
    doubled = body[:-1] + b', "installation": {"id": 2}}'

    found = SOURCES["github"].read("push", doubled)

    assert isinstance(found, BranchPushed)
    assert found.installation_id == 2


def test_source__W16_odd_characters_in_names_come_through():
    payload = a_payload("github/pull_request.opened", pull_request__head__ref="\u202eevil\U0001f600")

    found = github("pull_request", payload)

    assert isinstance(found, ChangeProposed)
    assert found.head_ref == "\u202eevil\U0001f600"


@pytest.mark.parametrize(
    ("source", "event", "name", "changes"),
    [
        ("github", "pull_request", "github/pull_request.opened", {"sender": None, "installation": None}),
        ("github", "pull_request", "github/pull_request.opened", {"pull_request__draft": None}),
        ("github", "pull_request", "github/pull_request.opened", {"pull_request__head__repo": None}),
        ("github", "pull_request", "github/pull_request.opened", {"pull_request__updated_at": None}),
        ("github", "pull_request", "github/pull_request.opened", {"repository__default_branch": None}),
        ("github", "pull_request", "github/pull_request.opened", {"action": None}),
        ("github", "pull_request", "github/pull_request.opened", {"action": "labeled", "label": None}),
        ("github", "push", "github/push.new_branch", {"sender": None, "pusher": None, "head_commit": None}),
        ("github", "issue_comment", "github/issue_comment.created", {"issue__pull_request": {}, "comment__user": None}),
        ("github", "issue_comment", "github/issue_comment.created", {"issue__pull_request": {}, "comment__body": None}),
        ("github", "check_run", "github/check_run.rerequested", {"check_run__external_id": None, "sender": None}),
        ("github", "installation", "github/installation.created", {"repositories": None}),
        ("github", "installation", "github/installation.created", {"installation__account": None}),
        ("gitlab", "", "gitlab/merge_request", {"user": None, "changes": None}),
        ("gitlab", "", "gitlab/merge_request", {"changes": {"labels": {"previous": None, "current": None}}}),
        ("gitlab", "", "gitlab/merge_request", {"object_attributes__source_project_id": None}),
        ("gitlab", "", "gitlab/merge_request", {"object_attributes__last_commit": None}),
        ("gitlab", "", "gitlab/push", {"project__default_branch": None, "commits": [], "user_username": None}),
        ("gitlab", "", "gitlab/push", {"object_kind": None}),
    ],
)  # fmt: skip
def test_source__what_may_be_left_out_or_gone_makes_no_delivery_invalid(
    source: str, event: str, name: str, changes: dict[str, Any]
):
    assert not isinstance(meaning_or_trouble(source, event, encoded(a_payload(name, **changes))), str)


@pytest.mark.parametrize("number", [2**63, 10**30, -1, "7", 1.5])
@pytest.mark.parametrize(
    ("source", "event", "name", "member"),
    [
        ("github", "push", "github/push.new_branch", "repository__id"),
        ("github", "pull_request", "github/pull_request.opened", "pull_request__number"),
        ("github", "installation", "github/installation.created", "installation__id"),
        ("github", "check_run", "github/check_run.rerequested", "check_run__id"),
        ("gitlab", "", "gitlab/push", "project__id"),
        ("gitlab", "", "gitlab/merge_request", "object_attributes__iid"),
    ],
)
def test_source__a_number_that_no_forge_has_is_invalid_at_once(
    source: str, event: str, name: str, member: str, number: Any
):
    found = meaning_or_trouble(source, event, encoded(a_payload(name, **{member: number})))

    assert str(found).startswith("The payload ")


@pytest.mark.parametrize("text", ["../app", "acme/..", "acme/../x", "acme", "a\u0000/b", "acme/" + "x" * 300, ""])
def test_source__a_repositorys_name_is_one_and_no_way_to_other_addresses(text: str):
    by_github = meaning_or_trouble(
        "github", "push", encoded(a_payload("github/push.new_branch", repository__full_name=text))
    )
    by_gitlab = meaning_or_trouble("gitlab", "", encoded(a_payload("gitlab/push", project__path_with_namespace=text)))

    assert str(by_github).startswith("The payload ")
    assert str(by_gitlab).startswith("The payload ")


@pytest.mark.parametrize("ref", ["refs/heads/a\u0000b", "refs/tags/" + "x" * 5000])
def test_source__W16_a_ref_that_git_would_not_take_is_invalid_at_once(ref: str):
    found = meaning_or_trouble("github", "push", encoded(a_payload("github/push.new_branch", ref=ref)))

    assert str(found).startswith("The payload ")


QUEUED = "gh-readonly-queue/main/pr-104-929f8209d40f77f4abc622a499c93a83babdbe64"
GROUP_HEAD = "2ffea6db159f6b6c47a24e778fb9ef40cf6b1c7d"


@pytest.mark.parametrize(("action", "kind"), [("checks_requested", GroupFormed), ("destroyed", GroupDissolved)])
def test_github__a_merge_group_is_formed_or_let_go(action: str, kind: type):
    found = github("merge_group", a_payload("github/merge_group.checks_requested", action=action))

    assert type(found) is kind
    assert (found.branch, found.base_ref, found.head_sha) == (QUEUED, "main", GROUP_HEAD)
    assert (found.repository.id, found.installation_id) == (186853002, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "renamed"},
        {"merge_group__base_ref": "refs/heads/loose"},
        {"merge_group__head_ref": "refs/heads/feature"},
        {"merge_group__head_ref": f"refs/tags/{QUEUED}"},
        {"merge_group__head_ref": "refs/heads/gh-readonly-queue/main/feature"},
    ],
)
def test_github__a_merge_group_whose_branch_is_no_queues_of_its_base_starts_nothing(changes: dict[str, Any]):
    payload = a_payload("github/merge_group.checks_requested", **changes)

    assert isinstance(github("merge_group", payload), Uninteresting)


def test_github__a_merge_group_for_a_branch_with_slashes():
    head = f"refs/heads/gh-readonly-queue/release/pr-1-x/2/pr-9-{HEAD}"
    names = {"merge_group__head_ref": head, "merge_group__base_ref": "refs/heads/release/pr-1-x/2"}

    assert github("merge_group", a_payload("github/merge_group.checks_requested", **names)).base_ref == (
        "release/pr-1-x/2"
    )


def test_github__a_push_of_a_queues_branch_is_the_apps_group_and_a_webhooks_event():
    payload = a_payload("github/push.new_branch", ref=f"refs/heads/{QUEUED}", before=ZEROS, after=HEAD)
    gone = payload | {"before": HEAD, "after": ZEROS, "deleted": True}

    assert isinstance(github("push", payload | {"installation": {"id": 2}}), Uninteresting)
    payload.pop("installation", None)
    gone.pop("installation", None)
    formed, dissolved = github("push", payload), github("push", gone)
    assert (type(formed), formed.head_sha, formed.base_ref) == (GroupFormed, HEAD, "main")
    assert (type(dissolved), dissolved.head_sha, dissolved.branch) == (GroupDissolved, HEAD, QUEUED)
