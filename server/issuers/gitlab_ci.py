"""GitLab CI's `id_tokens`: https://docs.gitlab.com/ci/secrets/id_token_authentication/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.issuers import IssuerKind, Workflow, file_in, number, text


def read(claims: Mapping[str, Any]) -> Workflow:
    """A merge request of a fork that runs in the target project carries the fork in `project_id`."""
    project_id, repository = number(claims, "project_id"), text(claims, "project_path")
    reference = text(claims, "ci_config_ref_uri") if claims.get("ci_config_ref_uri") is not None else None
    # `host/group/project//path@ref`
    place = reference.partition("/")[2] if reference else None
    return Workflow(
        repository_id=project_id,
        owner_id=number(claims, "namespace_id"),
        repository=repository,
        event=text(claims, "pipeline_source"),
        file=file_in(place, separator="//", repository=repository) if place else None,
        runs_for_fork="job_project_id" in claims and number(claims, "job_project_id") != project_id,
        ref=text(claims, "ref"),
    )


def api_url(issuer: str) -> str:
    """The issuer is the instance."""
    return f"{issuer.rstrip('/')}/api/v4"


kind = IssuerKind(
    name="gitlab",
    forge="gitlab",
    default_issuer="https://gitlab.com",
    keys_path="/oauth/discovery/keys",
    risky_events=frozenset(),
    read=read,
    api_url=api_url,
)
