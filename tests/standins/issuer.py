"""A stand-in for a CI service that signs tokens for workflows: its keys over HTTP, its tokens in the real form."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.standins.web import Answer, Refused, Seen, StandIn

AUDIENCE = "https://testing.example"


def a_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class StandInIssuer(StandIn):
    """Serves its public keys where GitHub and GitLab do. `published` is what it shows; `key` signs."""

    def __init__(self) -> None:
        super().__init__()
        self.key = a_key()
        self.published: Any = {"keys": [self.as_jwk(self.key, "k1")]}

    def as_jwk(self, key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
        return {
            **json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig", "alg": "RS256"
        }  # fmt: skip

    def answer(self, seen: Seen) -> Answer:
        if seen.path not in ("/.well-known/jwks", "/oauth/discovery/keys"):
            return Answer(status=404)
        return Answer(body=self.published)

    @property
    def times_asked(self) -> int:
        return len(self.log)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Of a GitHub workflow on a pull request; None leaves a claim out. Ids are text, as GitHub's are."""
        now = int(time.time())
        usual = {
            "iss": self.url,
            "aud": AUDIENCE,
            "jti": str(uuid.uuid4()),
            "iat": now,
            "nbf": now - 300,
            "exp": now + 300,
            "sub": "repo:acme/prompts:pull_request",
            "repository": "acme/prompts",
            "repository_id": "7001",
            "repository_owner": "acme",
            "repository_owner_id": "501",
            "event_name": "pull_request",
            "ref": "refs/pull/12/merge",
            "sha": "1" * 40,
            "job_workflow_ref": "acme/prompts/.github/workflows/test.yml@refs/pull/12/merge",
            "repository_visibility": "public",
            "runner_environment": "github-hosted",
            "check_run_id": "99",
        }
        return {name: value for name, value in (usual | changes).items() if value is not None}

    def gitlab_claims(self, **changes: Any) -> dict[str, Any]:
        """Of a GitLab job of a merge request."""
        gone = dict.fromkeys(
            ("repository", "repository_id", "repository_owner", "repository_owner_id", "event_name", "job_workflow_ref")
        )
        usual = {
            "project_id": "7001",
            "project_path": "acme/prompts",
            "namespace_id": "501",
            "namespace_path": "acme",
            "pipeline_source": "merge_request_event",
            "ci_config_ref_uri": "127.0.0.1/acme/prompts//.gitlab-ci.yml@refs/merge-requests/12/head",
            "job_project_id": "7001",
            "job_project_path": "acme/prompts",
        }
        return self.claims(**gone | usual | changes)

    def token(self, *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """Signed as the issuer signs."""
        return self.sign(self.claims(**changes), headers=headers)

    def sign(self, claims: dict[str, Any], *, headers: dict[str, Any] | None = None, key: Any = None) -> str:
        # Not by PyJWT's encode alone: it refuses to make some of what has to be refused.
        return jwt.api_jws.encode(
            json.dumps(claims).encode(),
            key or self.key,
            algorithm="RS256",
            headers={"kid": "k1", "typ": "JWT"} | (headers or {}),
        )


class RunnerIssuer(StandInIssuer):
    """The same with the door at which a workflow's step asks for its token. `run` are claims of the run."""

    bearer = "runtime-token"

    def __init__(self, **run: Any) -> None:
        super().__init__()
        self.run = run

    def answer(self, seen: Seen) -> Answer:
        if seen.path != "/token":
            return super().answer(seen)
        if seen.headers.get("authorization") != f"bearer {self.bearer}" or seen.query.get("api-version") != "2.0":
            raise Refused(Answer(status=401, body={"message": "Unauthorized"}), "no runtime token")
        if not seen.query.get("audience"):
            raise Refused(Answer(status=400, body={"message": "audience"}), "no audience of our own")
        return Answer(body={"value": self.token(aud=seen.query["audience"], **self.run)})

    @property
    def environ(self) -> dict[str, str]:
        """What the runner gives to a job with `id-token: write`."""
        url = f"{self.url}/token?api-version=2.0"
        return {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.bearer}
