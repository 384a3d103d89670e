"""GitHub Actions: https://docs.github.com/en/actions/reference/security/oidc. `sub` has two formats and is not read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from server.issuers import IssuerKind, Workflow, file_in, number, text

GITHUB_HOST = "token.actions.githubusercontent.com"


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
        ref=text(claims, "ref").removeprefix("refs/heads/"),
    )


def api_url(issuer: str) -> str | None:
    """github.com (with an enterprise's own path), GHE.com and Enterprise Server each have a form of their own.

    https://docs.github.com/enterprise-cloud@latest/actions/reference/security/oidc
    """
    parts = urlsplit(issuer)
    host = parts.hostname or ""
    if host == GITHUB_HOST:
        return "https://api.github.com"
    if host.startswith("token.actions.") and host.endswith(".ghe.com"):
        return f"https://api.{host.removeprefix('token.actions.')}"
    if parts.path == "/_services/token":
        return f"{parts.scheme}://{parts.netloc}/api/v3"
    return None


kind = IssuerKind(
    name="github",
    forge="github",
    default_issuer=f"https://{GITHUB_HOST}",
    keys_path="/.well-known/jwks",
    risky_events=frozenset({"pull_request_target", "workflow_run"}),
    read=read,
    api_url=api_url,
)
