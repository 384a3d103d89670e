"""Workflows without a key: which tokens of CI services are exchanged, which never, and what the new one may do."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
import uuid
from collections.abc import Iterator
from typing import Any

import asyncpg
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.domain.errors import NotAllowed, NotAuthenticated, ServiceError, Unavailable
from server.domain.trust import Exchanged
from server.issuers import find_kinds
from server.services.accounts import create_account
from server.services.identity import JwtRules, identify
from server.services.keyless import Issuer, Keyless, add_trust, exchange, new_trust, read_issuers, remove_trust
from server.services.signing_keys import SigningKeys
from tests.standins.issuer import AUDIENCE, StandInIssuer, a_key
from tests.standins.web import Answer, Fault

TRUST: dict[str, Any] = {
    "account": "acme",
    "issuer": None,
    "repository": "acme/prompts",
    "repository_id": 7001,
    "owner_id": 501,
    "workflow": None,
    "events": (),
    "may_publish": False,
    "proof": "a test",
}


@pytest.fixture(scope="module")
def issuer_server() -> Iterator[StandInIssuer]:
    with StandInIssuer().running() as running:
        yield running


@pytest.fixture
def issuer(issuer_server: StandInIssuer) -> StandInIssuer:
    """The same server with a clean log, as making a key takes long."""
    issuer_server.published = {"keys": [issuer_server.as_jwk(issuer_server.key, "k1")]}
    issuer_server.log.clear()
    issuer_server.faults.clear()
    return issuer_server


@pytest.fixture
def keyless(issuer: StandInIssuer) -> Keyless:
    return Keyless(issuers=read_issuers(f"github={issuer.url}"), audience=AUDIENCE)


@pytest.fixture
async def acme(db: asyncpg.Pool, keyless: Keyless) -> uuid.UUID:
    """An account with one trusted repository."""
    account = await create_account(db, "acme", tier="plus", kind="organization")
    await add_trust(db, new_trust(keyless.issuers, **TRUST))
    return account.id


async def refused(db: asyncpg.Pool, keyless: Keyless, token: str, kind: type[ServiceError] = NotAuthenticated) -> str:
    """The code of the refusal; nothing was kept."""
    with pytest.raises(ServiceError) as caught:
        await exchange(db, keyless, token)
    assert type(caught.value) is kind, caught.value.message
    assert await db.fetchval("SELECT COUNT(*) FROM access_tokens") == 0
    assert await db.fetchval("SELECT COUNT(*) FROM oidc_exchanges") == 0
    assert not token or token[:40] not in caught.value.message
    return caught.value.error_code


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


# What is accepted


async def test_exchange__gives_a_token_of_fifteen_minutes_for_the_account(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID
):
    done = await exchange(db, keyless, issuer.token())

    assert (done.account, done.repository) == ("acme", "acme/prompts")
    assert 890 < done.expires_at.timestamp() - time.time() < 910
    caller = await identify(db, done.token, rules=JwtRules())
    assert (caller.id, caller.scopes, caller.is_unlimited) == (acme, ("run",), False)
    rows = await db.fetch("SELECT * FROM access_tokens")
    assert done.token not in str([dict(row) for row in rows])


SUBS = {
    "old form": "repo:acme/prompts:pull_request",
    "new form": "repo:acme@501/prompts@7001:pull_request",
    "of somebody else": "repo:mallory/other:ref:refs/heads/main",
    "customised": "environment:prod:whatever",
    "none": None,
    "no text": ["repo:acme/prompts"],
}


@pytest.mark.parametrize("form", SUBS)
async def test_exchange__A8_sub_is_never_read(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID, form: str
):
    assert (await exchange(db, keyless, issuer.token(sub=SUBS[form]))).account == "acme"


ACCEPTED: dict[str, dict[str, Any]] = {
    "renamed repository": {"repository": "acme/prompts-renamed"},
    "renamed owner": {"repository": "acme-inc/prompts", "repository_owner": "acme-inc"},
    "ids as numbers": {"repository_id": 7001, "repository_owner_id": 501},
    "unknown claims": {"repo_property_team": "a", "enterprise": {"deep": [1]}, "is_admin": True, "tier": "enterprise"},
    "push": {"event_name": "push"},
    "no nbf": {"nbf": None},
    "A5 ended within the leeway": {"exp": int(time.time()) - 10},
    "A5 begins within the leeway": {"nbf": int(time.time()) + 20, "iat": int(time.time()) + 20},
    "times with a fraction": {"iat": time.time(), "exp": time.time() + 299.5},
}


@pytest.mark.parametrize("case", ACCEPTED)
async def test_exchange__what_changes_without_harm_is_accepted(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID, case: str
):
    changes = ACCEPTED[case]
    # Made when the test runs, not when the table was read.
    late = {
        name: value + (time.time() - STARTED)
        for name, value in changes.items()
        if name in ("exp", "nbf", "iat") and value
    }

    done = await exchange(db, keyless, issuer.token(**changes | late))

    assert done.account == "acme"
    [name] = [row["repository"] for row in await db.fetch("SELECT repository FROM trusted_repositories")]
    assert name == changes.get("repository", "acme/prompts")


STARTED = time.time()


# What is refused for what it is

NOW = int(STARTED)
FORGED: dict[str, Any] = {
    "empty": lambda i: "",
    "nonsense": lambda i: "nonsense",
    "three dots": lambda i: "...",
    "huge": lambda i: "x" * 17_000,
    "a NUL": lambda i: "a\x00b.c.d",
    "one of ours": lambda i: "prpm_" + "x" * 43,
    "header is a list": lambda i: f"{segment([1])}.{segment(i.claims())}.c2ln",
    "claims are a list": lambda i: f"{segment({'alg': 'RS256', 'kid': 'k1'})}.{segment([1])}.c2ln",
    "iss is a list": lambda i: i.token(iss=[i.url]),
    "iss is an object": lambda i: i.token(iss={"url": i.url}),
    "nested deep": lambda i: f"{segment({'alg': 'RS256', 'kid': 'k1'})}.{'W' * 8000}.c2ln",
    "A1 alg none": lambda i: f"{segment({'alg': 'none', 'kid': 'k1'})}.{segment(i.claims())}.",
    "A1 alg None": lambda i: f"{segment({'alg': 'None', 'kid': 'k1'})}.{segment(i.claims())}.",
    "A1 no alg": lambda i: f"{segment({'kid': 'k1'})}.{segment(i.claims())}.",
    "A1 signature cut off": lambda i: i.token().rpartition(".")[0] + ".",
    "A1 signature of another token": lambda i: i.token().rpartition(".")[0] + "." + i.token().rpartition(".")[2],
    "A1 claims changed": lambda i: swapped(i.token(), i.claims(repository_id="1")),
    "A2 HS256 with the public key": lambda i: hmac_signed(i, "HS256"),
    "A2 HS512 with the public key": lambda i: hmac_signed(i, "HS512"),
    "A2 RS256 in the header, HMAC below": lambda i: hmac_signed(i, "HS256", says="RS256"),
    "A2 RS384": lambda i: jwt.encode(i.claims(), i.key, algorithm="RS384", headers={"kid": "k1"}),
    "A2 PS256": lambda i: jwt.encode(i.claims(), i.key, algorithm="PS256", headers={"kid": "k1"}),
    "A3 kid of a path": lambda i: i.token(headers={"kid": "../../../../dev/null"}),
    "A3 kid of SQL": lambda i: i.token(headers={"kid": "k1' UNION SELECT 'x"}),
    "A3 kid is a URL": lambda i: i.token(headers={"kid": "https://evil.example/keys"}),
    "A3 kid empty": lambda i: i.token(headers={"kid": ""}),
    "A3 kid long": lambda i: i.token(headers={"kid": "k" * 5000}),
    "A3 own key in jwk": lambda i: i.sign(i.claims(), headers={"jwk": i.as_jwk(OTHER, "k1")}, key=OTHER),
    "A3 own keys by jku": lambda i: i.sign(i.claims(), headers={"jku": f"{i.url}/evil", "kid": "evil"}, key=OTHER),
    "A3 own keys by x5u": lambda i: i.sign(i.claims(), headers={"x5u": f"{i.url}/evil", "kid": "evil"}, key=OTHER),
    "A3 crit": lambda i: i.token(headers={"crit": ["exp"], "exp": 1}),
    "another key": lambda i: i.sign(i.claims(), key=OTHER),
    "A5 expired": lambda i: i.token(exp=NOW - 3600, nbf=NOW - 7200, iat=NOW - 7200),
    "A5 just expired": lambda i: i.token(exp=int(time.time()) - 40),
    "A5 nbf ahead": lambda i: i.token(nbf=NOW + 3600),
    "A5 iat ahead": lambda i: i.token(iat=NOW + 3600),
    "A5 no exp": lambda i: i.token(exp=None),
    "A5 no iat": lambda i: i.token(iat=None),
    "A5 exp is text": lambda i: i.token(exp=str(NOW + 300)),
    "A5 exp is true": lambda i: i.token(exp=True),
    "A5 exp is 1e20": lambda i: i.token(exp=1e20),
    "A5 exp is NaN": lambda i: i.token(exp=math.nan),
    "A5 exp is infinite": lambda i: i.token(exp=math.inf),
    "A5 exp in a century": lambda i: i.token(exp=NOW + 100 * 366 * 86_400),
    "A5 exp is below nought": lambda i: i.token(exp=-1),
    "A5 iat is text": lambda i: i.token(iat=str(NOW)),
    "A5 nbf is a list": lambda i: i.token(nbf=[NOW]),
    "A6 another audience": lambda i: i.token(aud="https://elsewhere.example"),
    "A6 audience with a slash": lambda i: i.token(aud=AUDIENCE + "/"),
    "A6 two audiences": lambda i: i.token(aud=[AUDIENCE, "https://elsewhere.example"]),
    "A6 a list of ours": lambda i: i.token(aud=[AUDIENCE]),
    "A6 no audience": lambda i: i.token(aud=None),
    "A6 GitHub's usual audience": lambda i: i.token(aud="https://github.com/acme"),
    "A6 wrong issuer": lambda i: i.token(iss="https://evil.example"),
    "A6 issuer with a slash": lambda i: i.token(iss=i.url + "/"),
    "A6 issuer with a path": lambda i: i.token(iss=i.url + "/enterprise"),
    "A6 issuer in capitals": lambda i: i.token(iss=i.url.upper()),
    "A6 issuer with a user": lambda i: i.token(iss=i.url.replace("//", "//x@")),
    "A6 no issuer": lambda i: i.token(iss=None),
    "A6 GitHub's issuer, unregistered": lambda i: i.token(iss="https://token.actions.githubusercontent.com"),
    "A7 no jti": lambda i: i.token(jti=None),
    "A7 jti empty": lambda i: i.token(jti=""),
    "A7 jti long": lambda i: i.token(jti="j" * 300),
    "A7 jti is a number": lambda i: i.token(jti=5),
    "A7 jti with a NUL": lambda i: i.token(jti="a\x00b"),
    "A8 no repository id": lambda i: i.token(repository_id=None),
    "A8 repository id is no number": lambda i: i.token(repository_id="7001 OR 1=1"),
    "A8 repository id in other digits": lambda i: i.token(repository_id="７００１"),
    "A8 repository id is true": lambda i: i.token(repository_id=True),
    "A8 repository id is huge": lambda i: i.token(repository_id="9" * 30),
    "A8 repository id with a fraction": lambda i: i.token(repository_id=7001.0),
    "A8 no owner id": lambda i: i.token(repository_owner_id=None),
    "A8 no event": lambda i: i.token(event_name=None),
    "A8 repository with a line break": lambda i: i.token(repository="acme/prompts\n::error::x"),
}
OTHER = a_key()


def swapped(token: str, claims: dict[str, Any]) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{segment(claims)}.{signature}"


def hmac_signed(issuer: StandInIssuer, algorithm: str, *, says: str | None = None) -> str:
    """Signed with what everybody can read, the public key, taken for a secret."""
    import hashlib
    import hmac

    public = issuer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = f"{segment({'alg': says or algorithm, 'kid': 'k1'})}.{segment(issuer.claims())}"
    digest = hmac.new(public, body.encode(), hashlib.sha256 if algorithm == "HS256" else hashlib.sha512).digest()
    return f"{body}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


@pytest.mark.parametrize("case", FORGED)
async def test_exchange__what_is_not_good_is_a_401(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID, case: str
):
    assert await refused(db, keyless, FORGED[case](issuer)) == "invalid_oidc_token"
    # No address from the token was asked.
    assert {seen.path for seen in issuer.log} <= {"/.well-known/jwks"}


# What is refused for whose it is

NOT_TRUSTED: dict[str, tuple[dict[str, Any], str]] = {
    "A8 name registered anew by another owner": ({"repository_owner_id": "666"}, "owner_changed"),
    "A8 name registered anew as another repository": ({"repository_id": "6660"}, "repository_not_trusted"),
    "A8 pull_request_target": ({"event_name": "pull_request_target"}, "event_not_allowed"),
    "A8 workflow_run": ({"event_name": "workflow_run"}, "event_not_allowed"),
    "A9 linked to nobody": (
        {"repository": "mallory/other", "repository_id": "1", "repository_owner_id": "2"},
        "repository_not_trusted",
    ),
}


@pytest.mark.parametrize("case", NOT_TRUSTED)
async def test_exchange__what_is_not_trusted_is_a_403(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID, case: str
):
    changes, code = NOT_TRUSTED[case]

    assert await refused(db, keyless, issuer.token(**changes), NotAllowed) == code


async def test_exchange__A9_says_in_a_sentence_how_to_link(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID
):
    with pytest.raises(NotAllowed) as caught:
        await exchange(db, keyless, issuer.token(repository="acme/new", repository_id="8", repository_owner_id="501"))

    assert caught.value.message == (
        "The repository acme/new is linked to no account. Who administers it links it: `prpm trust add acme/new`, "
        "with --org NAME for an organisation. Or the service's operator: `prpm-testing trust add ACCOUNT "
        "--repository acme/new --repository-id 8 --owner-id 501`."
    )


async def test_exchange__A8_a_risky_event_that_the_link_allows_is_accepted(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID
):
    allowing = TRUST | {"repository_id": 7002, "events": ["workflow_run"]}
    await add_trust(db, new_trust(keyless.issuers, **allowing))

    done = await exchange(db, keyless, issuer.token(repository_id="7002", event_name="workflow_run"))

    assert done.account == "acme"
    with pytest.raises(NotAllowed):
        await exchange(db, keyless, issuer.token(repository_id="7002", event_name="pull_request_target"))


OTHER_FILES = [
    "acme/prompts/.github/workflows/other.yml@refs/heads/main",
    "mallory/prompts/.github/workflows/test.yml@refs/heads/main",
    "acme/prompts/.github/workflows/test.yml.evil@refs/heads/main",
    "acme/prompts-two/.github/workflows/test.yml@refs/heads/main",
    None,
]


@pytest.mark.parametrize("reference", OTHER_FILES)
async def test_exchange__A8_another_workflow_than_the_links_is_a_403(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID, reference: str | None
):
    await db.execute("UPDATE trusted_repositories SET workflow = '.github/workflows/test.yml'")

    assert await refused(db, keyless, issuer.token(job_workflow_ref=reference), NotAllowed) == "other_workflow"
    assert (await exchange(db, keyless, issuer.token())).account == "acme"


async def test_exchange__A11_of_an_account_that_is_not_active_is_a_403(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID
):
    done = await exchange(db, keyless, issuer.token())
    await db.execute("UPDATE users SET is_active = FALSE")

    with pytest.raises(NotAllowed):
        await exchange(db, keyless, issuer.token())
    with pytest.raises(NotAuthenticated):
        await identify(db, done.token, rules=JwtRules())


# Once


async def test_exchange__A7_fifty_at_once_with_one_token_give_one(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID
):
    token = issuer.token()

    answers = await asyncio.gather(*(exchange(db, keyless, token) for _ in range(50)), return_exceptions=True)

    assert sum(isinstance(answer, Exchanged) for answer in answers) == 1
    assert {answer.error_code for answer in answers if isinstance(answer, ServiceError)} == {"oidc_token_used"}
    assert await db.fetchval("SELECT COUNT(*) FROM access_tokens") == 1
    with pytest.raises(NotAuthenticated):
        await exchange(db, keyless, token)


async def test_exchange__A7_the_same_jti_in_another_token_is_used_up_too(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID
):
    await exchange(db, keyless, issuer.token(jti="once"))

    with pytest.raises(NotAuthenticated):
        await exchange(db, keyless, issuer.token(jti="once", event_name="push"))


async def test_clean_up__A7_forgets_a_token_only_when_it_could_not_be_taken_any_more(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID
):
    from server.store import retention

    await exchange(db, keyless, issuer.token(jti="long", exp=int(time.time()) + 600))
    await exchange(db, keyless, issuer.token(jti="short", exp=int(time.time()) + 1))
    assert await retention.delete_oidc_exchanges(db, most=10) == 0

    await db.execute("UPDATE oidc_exchanges SET expires_at = expires_at - INTERVAL '37 seconds'")
    assert await retention.delete_oidc_exchanges(db, most=10) == 1

    assert [row["jti"] for row in await db.fetch("SELECT jti FROM oidc_exchanges")] == ["long"]
    await db.execute("UPDATE access_tokens SET expires_at = NOW() - INTERVAL '2 days'")
    assert await retention.delete_sessions(db, most=10) == 2


# The issuer's keys


async def test_keys__A4_a_thousand_unknown_ids_ask_the_issuer_once(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID
):
    await exchange(db, keyless, issuer.token())
    header_and_claims = issuer.token().split(".")

    async def try_one(number: int) -> None:
        header = segment({"alg": "RS256", "kid": f"unknown-{number}", "typ": "JWT"})
        with pytest.raises(NotAuthenticated):
            await exchange(db, keyless, ".".join([header, *header_and_claims[1:]]))

    await asyncio.gather(*(try_one(number) for number in range(1000)))

    # The first exchange fetched them; within a minute nobody fetches again.
    assert issuer.times_asked == 1


async def test_keys__a_new_key_is_found_after_a_minute_and_an_old_one_stays_while_the_issuer_is_away(
    issuer: StandInIssuer,
):
    now = 1000.0
    keys = SigningKeys(f"{issuer.url}/.well-known/jwks", clock=lambda: now)
    assert await keys.find("k1") is not None

    issuer.published = {"keys": [issuer.as_jwk(issuer.key, "k1"), issuer.as_jwk(OTHER, "k2")]}
    assert await keys.find("k2") is None
    now += 61
    assert await keys.find("k2") is not None

    for away in (Answer(status=500), Answer(body={"keys": []}), Answer(body=b"[" * 100_000), Answer(body=[1]), None):
        issuer.faults.append(Fault(answer=away, times=1))
        now += 61
        assert await keys.find("k3") is None
        assert await keys.find("k1") is not None
    assert issuer.times_asked == 7


async def test_keys__an_endless_or_silent_answer_is_given_up(issuer: StandInIssuer):
    keys = SigningKeys(f"{issuer.url}/.well-known/jwks")
    issuer.faults.append(Fault(answer=Answer(), times=1, endless=True))

    started = time.monotonic()
    assert await keys.find("k1") is None

    assert time.monotonic() - started < 4


async def test_keys__that_were_never_fetched_are_a_503(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID
):
    issuer.faults.append(Fault(answer=Answer(status=500), times=10))

    assert await refused(db, keyless, issuer.token(), Unavailable) == "unavailable"


async def test_keys__A6_one_issuers_key_signs_nothing_for_another(
    db: asyncpg.Pool, issuer: StandInIssuer, keyless: Keyless, acme: uuid.UUID
):
    with StandInIssuer().running() as evil:
        both = Keyless(issuers=read_issuers(f"github={issuer.url}, gitlab={evil.url}"), audience=AUDIENCE)

        assert await refused(db, both, evil.token(iss=issuer.url)) == "invalid_oidc_token"
        # A project of the same numbers at another issuer is another project.
        evil_claims = evil.gitlab_claims()
        assert await refused(db, both, evil.sign(evil_claims), NotAllowed) == "repository_not_trusted"


# GitLab


@pytest.fixture
async def gitlab(db: asyncpg.Pool, issuer: StandInIssuer) -> Keyless:
    keyless = Keyless(issuers=read_issuers(f"gitlab={issuer.url}"), audience=AUDIENCE)
    await create_account(db, "acme", tier="plus")
    await add_trust(db, new_trust(keyless.issuers, **TRUST | {"workflow": ".gitlab-ci.yml"}))
    return keyless


async def test_exchange__takes_gitlabs_tokens(db: asyncpg.Pool, gitlab: Keyless, issuer: StandInIssuer):
    assert (await exchange(db, gitlab, issuer.sign(issuer.gitlab_claims()))).account == "acme"
    assert {seen.path for seen in issuer.log} == {"/oauth/discovery/keys"}


GITLAB_REFUSED: dict[str, tuple[dict[str, Any], type[ServiceError], str]] = {
    "A8 fork that runs in the target": (
        {"project_id": "7001", "job_project_id": "9"}, NotAllowed, "runs_for_fork",
    ),
    "A8 another namespace": ({"namespace_id": "9"}, NotAllowed, "owner_changed"),
    "A8 another project": ({"project_id": "9", "job_project_id": "9"}, NotAllowed, "repository_not_trusted"),
    "A8 configuration of another project": (
        {"ci_config_ref_uri": "127.0.0.1/mallory/x//.gitlab-ci.yml@refs/heads/main"}, NotAllowed, "other_workflow",
    ),
    "no project": ({"project_id": None}, NotAuthenticated, "invalid_oidc_token"),
    "no source": ({"pipeline_source": None}, NotAuthenticated, "invalid_oidc_token"),
}  # fmt: skip


@pytest.mark.parametrize("case", GITLAB_REFUSED)
async def test_exchange__refuses_gitlabs_tokens_that_are_not_trusted(
    db: asyncpg.Pool, gitlab: Keyless, issuer: StandInIssuer, case: str
):
    changes, kind, code = GITLAB_REFUSED[case]

    assert await refused(db, gitlab, issuer.sign(issuer.gitlab_claims(**changes)), kind) == code


# Links


async def test_trust__a_repository_is_one_accounts_at_most_and_its_tokens_end_with_it(
    db: asyncpg.Pool, keyless: Keyless, issuer: StandInIssuer, acme: uuid.UUID
):
    await create_account(db, "mallory", tier="plus")
    with pytest.raises(ServiceError) as caught:
        await add_trust(db, new_trust(keyless.issuers, **TRUST | {"account": "mallory"}))
    assert caught.value.error_code == "repository_is_trusted"
    done = await exchange(db, keyless, issuer.token())

    await remove_trust(db, None, None, str(await db.fetchval("SELECT id FROM trusted_repositories")))

    with pytest.raises(NotAuthenticated):
        await identify(db, done.token, rules=JwtRules())


BAD_LINKS: dict[str, dict[str, Any]] = {
    "unknown_issuer": {"issuer": "https://evil.example"},
    "invalid_repository": {"repository": "prompts"},
    "invalid_event": {"events": ["push"]},
    "invalid_workflow": {"workflow": ""},
    "account_not_found": {"account": "nobody"},
}


@pytest.mark.parametrize("code", BAD_LINKS)
async def test_trust__what_cannot_be_is_refused(db: asyncpg.Pool, keyless: Keyless, acme: uuid.UUID, code: str):
    with pytest.raises(ServiceError) as caught:
        await add_trust(db, new_trust(keyless.issuers, **TRUST | {"repository_id": 1} | BAD_LINKS[code]))

    assert caught.value.error_code == code


BAD_ISSUERS = [
    "http://ci.example", "github=http://ci.example", "https://ci.example", "drone=https://ci.example", "github=", "=",
    "github=https://", "github=https://ci.example?x=1", "github=https://u@ci.example", "github=ftp://127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_ISSUERS)
def test_issuers__what_is_none_is_refused_at_the_start(text: str):
    with pytest.raises(ServiceError, match="kinds are github, gitlab"):
        read_issuers(text)


def test_issuers__without_a_setting_are_the_forges_own():
    issuers = read_issuers(None)

    assert list(issuers) == ["https://token.actions.githubusercontent.com", "https://gitlab.com"]
    assert list(read_issuers("https://gitlab.com")) == ["https://gitlab.com"]
    assert isinstance(issuers["https://gitlab.com"], Issuer)


@pytest.mark.parametrize("kind", find_kinds().values(), ids=lambda kind: kind.name)
def test_kind__keeps_the_familys_contract(kind: Any):
    assert kind.default_issuer.startswith("https://")
    assert not kind.default_issuer.endswith("/")
    assert kind.keys_url(kind.default_issuer).startswith(kind.default_issuer + "/")
    assert kind.forge in ("github", "gitlab")
    for nonsense in ({}, {"repository": 5}, {"project_id": None}, {"repository_id": "x" * 5000}):
        with pytest.raises(NotAuthenticated):
            kind.read(nonsense)
