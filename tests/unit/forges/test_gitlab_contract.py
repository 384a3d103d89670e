"""GitLab's contract refuses what GitLab refuses, and what it ignores: each rule has a request that breaks it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.standins.gitlab_contract import OPERATIONS, answered, require
from tests.standins.web import Answer, Refused, Seen

SHA = "1a2b3c4d" * 5
NOTES = "/projects/7/merge_requests/12/notes"
STATUS = f"/projects/acme%2Fprompts/statuses/{SHA}"


def a_request(method: str, address: str, body: Any = None, **headers: str) -> Seen:
    parts = urlsplit(f"/api/v4{address}")
    pairs = tuple(parse_qsl(parts.query, keep_blank_values=True))
    usual = {"user-agent": "prpm-testing", "private-token": "glpat-x"}
    if body is not None:
        usual["content-type"] = "application/json"
    return Seen(
        method=method,
        path=parts.path,
        query=dict(pairs),
        pairs=pairs,
        headers={name: value for name, value in (usual | headers).items() if value},
        body=b"" if body is None else json.dumps(body).encode(),
    )


def test_contract__has_each_operation_once():
    names = [one.name for one in OPERATIONS]

    assert len(names) == len(set(names))
    assert {"getProject", "createMergeRequestNote", "setCommitStatus", "getMergeBase"} <= set(names)


@pytest.mark.parametrize(
    ("request_", "operation"),
    [
        (a_request("GET", "/projects/acme%2Fprompts"), "getProject"),
        (a_request("GET", f"{NOTES}?sort=asc&per_page=100&page=2"), "listMergeRequestNotes"),
        (a_request("POST", NOTES, {"body": "hello"}), "createMergeRequestNote"),
        (a_request("DELETE", f"{NOTES}/5"), "deleteMergeRequestNote"),
        (a_request("POST", STATUS, {"state": "running", "target_url": "https://x.example/1"}), "setCommitStatus"),
        (a_request("GET", "/projects/7/repository/tree?recursive=true&pagination=keyset"), "listTree"),
        (a_request("GET", f"/projects/7/repository/merge_base?refs[]={SHA}&refs[]={SHA}"), "getMergeBase"),
        (a_request("GET", "/projects/7/repository/files/a%2Fb.md?ref=main"), "getFile"),
    ],
)
def test_contract__takes_what_the_documentation_has(request_: Seen, operation: str):
    assert require(request_).name == operation


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (a_request("GET", "/projects/acme/prompts"), "no such operation"),
        (a_request("GET", "/projects/7/hooks"), "no such operation"),
        (a_request("PATCH", f"{NOTES}/5", {"body": "x"}), "only DELETE, GET, PUT here"),
        (a_request("GET", "/projects/7/merge_requests/twelve"), "merge_request_iid is no whole number"),
        (a_request("POST", "/projects/7/statuses/abc", {"state": "running"}), "sha is not of the form"),
        (a_request("GET", f"{NOTES}?per_page=101"), "per_page is out of its range"),
        (a_request("GET", f"{NOTES}?sort=newest"), "sort is none of"),
        (a_request("GET", f"{NOTES}?since=2026"), "since is unknown in the query"),
        (a_request("GET", f"{NOTES}?page=1&page=2"), "page comes twice"),
        (a_request("GET", "/projects/7/repository/tree?recursive=1"), "recursive is neither true nor false"),
        (a_request("GET", "/projects/7/repository/tree?pagination=offset"), "pagination is none of"),
        (a_request("GET", f"/projects/7/repository/compare?from={SHA}"), "to is missing in the query"),
        (a_request("GET", f"/projects/7/repository/merge_base?refs[]={SHA}"), "refs[] has too few"),
        (a_request("POST", NOTES, {}), "body is missing"),
        (a_request("POST", NOTES, {"body": ""}), "body is too short"),
        (a_request("POST", NOTES, {"body": "x" * 1_000_001}), "body is longer than 1000000"),
        (a_request("POST", NOTES, {"body": 7}), "body is no string"),
        (a_request("POST", NOTES, {"body": "x", "confidential": True}), "confidential is unknown"),
        (a_request("POST", NOTES, ["x"]), "the body is no object"),
        (a_request("POST", NOTES, {"body": "x", "created_at": "yesterday"}), "created_at is no moment"),
        (a_request("POST", STATUS, {"state": "failure"}), "state is none of"),
        (a_request("POST", STATUS, {"state": "failed", "description": "x" * 256}), "description is longer than 255"),
        (a_request("POST", STATUS, {"state": "failed", "target_url": "/jobs/1"}), "target_url is no address"),
        (a_request("POST", STATUS, {"state": "failed", "coverage": "80"}), "coverage is no number"),
        (a_request("POST", STATUS, {"state": "failed", "pipeline_id": True}), "pipeline_id is no integer"),
        (a_request("POST", NOTES, {"body": "x"}, **{"content-type": "text/plain"}), "a body that is not JSON"),
        (a_request("GET", "/user", {"a": 1}), "a body where none is read"),
        (a_request("GET", "/user", **{"user-agent": "python-httpx/0.28"}), "no User-Agent of our own"),
        (a_request("GET", "/user", authorization="Bearer x"), "two proofs at once"),
        (a_request("GET", "/user", authorization="Basic x", **{"private-token": ""}), "not a Bearer's"),
    ],
)
def test_contract__refuses_all_else(request_: Seen, words: str):
    with pytest.raises(Refused) as refused:
        require(request_)

    assert words in refused.value.why


def test_contract__the_stand_in_gives_no_answer_that_gitlab_does_not_give():
    notes = require(a_request("POST", NOTES, {"body": "x"}))

    assert answered(notes, Answer(status=201)).status == 201
    with pytest.raises(AssertionError, match="never answers 200"):
        answered(notes, Answer(status=200))
