"""GitHub Actions: https://docs.github.com/en/actions/reference/security/oidc. `sub` has two formats and is not read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.issuers import IssuerKind, Workflow, file_in, number, text


def read(claims: Mapping[str, Any]) -> Workflow:
    """Pull requests from forks get no token at all, so none is for a fork."""
    repository = text(claims, "repository")
    reference = text(claims, "job_workflow_ref") if "job_workflow_ref" in claims else None
    return Workflow(
        repository_id=number(claims, "repository_id"),
        owner_id=number(claims, "repository_owner_id"),
        repository=repository,
        event=text(claims, "event_name"),
        # The file that holds the job: of a reusable workflow the called one.
        file=file_in(reference, separator="/", repository=repository) if reference else None,
        runs_for_fork=False,
    )


kind = IssuerKind(
    name="github",
    forge="github",
    default_issuer="https://token.actions.githubusercontent.com",
    keys_path="/.well-known/jwks",
    risky_events=frozenset({"pull_request_target", "workflow_run"}),
    read=read,
)
