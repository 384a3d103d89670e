"""Who is let in: tokens of ours, JWTs as the registry signs them, and nothing that only looks like one."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
import uuid
from collections.abc import Iterator

import asyncpg
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from server.domain.errors import NotAuthenticated, NotFound
from server.services.accounts import create_account
from server.services.identity import JwtRules, identify, issue_token, revoke_token
from server.services.signing_keys import SigningKeys
from tests.service import JWT_SECRET, Service

NOW = int(time.time())


def a_jwt(user_id: object, *, secret: str = JWT_SECRET, algorithm: str = "HS256", **claims: object) -> str:
    return jwt.encode({"user_id": str(user_id), "iat": NOW, **claims}, secret, algorithm=algorithm)


def get_user(service: Service, token: str | None):
    with service.visitor() as client:
        return client.get("/api/v1/user", headers={"Authorization": f"Bearer {token}"} if token else {})


def segment(value: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_token__names_its_account_with_the_tier_of_the_database(service: Service):
    alice = service.an_account(tier="pro")

    user = get_user(service, alice.token).json()

    assert (user["username"], user["tier"], user["is_admin"]) == (alice.username, "pro", False)


def test_jwt__A5_without_an_end_is_accepted_and_A10_its_claims_decide_nothing(service: Service):
    alice = service.an_account(tier="plus")

    user = get_user(service, a_jwt(alice.id, username="root", is_admin=True, tier="enterprise")).json()

    assert (user["username"], user["tier"], user["is_admin"]) == (alice.username, "plus", False)


def test_scheme__is_read_in_any_case(service: Service):
    alice = service.an_account()
    with service.visitor() as client:
        answer = client.get("/api/v1/user", headers={"Authorization": f"bearer {alice.token}"})

    assert answer.status_code == 200


BAD = {
    "none": lambda a: None,
    "nonsense": lambda a: "nonsense",
    "unknown": lambda a: "prpm_" + "x" * 43,
    "A1 alg none": lambda a: f"{segment({'alg': 'none', 'typ': 'JWT'})}.{segment({'user_id': str(a.id)})}.",
    "A1 alg None": lambda a: f"{segment({'alg': 'None', 'typ': 'JWT'})}.{segment({'user_id': str(a.id)})}.",
    "A1 no signature": lambda a: a_jwt(a.id).rpartition(".")[0] + ".",
    "other secret": lambda a: a_jwt(a.id, secret="another secret of thirty-two bytes..."),
    "other algorithm": lambda a: a_jwt(a.id, secret=JWT_SECRET * 2, algorithm="HS512"),
    "A3 kid and jku": lambda a: jwt.encode(
        {"user_id": str(a.id)}, "x" * 40, headers={"kid": "../../etc/passwd", "jku": "http://127.0.0.1:1/"}
    ),
    "A5 expired": lambda a: a_jwt(a.id, exp=NOW - 3600),
    "A5 nbf ahead": lambda a: a_jwt(a.id, nbf=NOW + 3600),
    "A5 iat ahead": lambda a: a_jwt(a.id, iat=NOW + 3600),
    "A5 exp text": lambda a: a_jwt(a.id, exp="soon"),
    "A5 exp 1e20": lambda a: a_jwt(a.id, exp=-1e20),
    "unknown user": lambda a: a_jwt(uuid.uuid4()),
    "no user": lambda a: jwt.encode({"iat": NOW}, JWT_SECRET),
    "user no uuid": lambda a: a_jwt("' OR 1=1 --"),
    "jti unknown": lambda a: a_jwt(a.id, jti="made up"),
    "long": lambda a: "x" * 9000,
}


NOBODYS_ID = "6c4d2a61-62c9-4c42-85cf-c5822d79a574"


@pytest.mark.parametrize("case", BAD)
def test_token__bad_ones_are_a_401_in_the_same_words(service: Service, case: str):
    alice = service.an_account()

    answer = get_user(service, BAD[case](alice))

    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthorized"
    assert "prpm login" in answer.json()["error"]
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "", "x"])
def test_header__other_schemes_are_a_401(service: Service, header: str):
    with service.visitor() as client:
        assert client.get("/api/v1/user", headers={"Authorization": header}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/test-jobs/run"),
        ("GET", f"/api/v1/test-jobs/{NOBODYS_ID}"),
        ("GET", f"/api/v1/test-jobs/{NOBODYS_ID}/results"),
        ("GET", "/api/v1/users/me/test-usage"),
        ("POST", "/api/v1/package-snapshots"),
        ("PUT", f"/api/v1/packages/{NOBODYS_ID}/suite"),
        ("POST", "/api/v1/admin/accounts"),
    ],
)
def test_route__without_a_token_is_a_401(service: Service, method: str, path: str):
    with service.visitor() as client:
        answer = client.request(method, path, json={} if method != "GET" else None)

    assert answer.status_code == 401


def test_token__A15_in_the_address_is_refused(service: Service):
    alice = service.an_account()
    with service.visitor() as client:
        answer = client.get("/api/v1/user", params={"token": alice.token})

    assert answer.status_code == 400
    assert alice.token not in answer.text
    assert alice.token not in (service.folder / "api.log").read_text()


def test_account__A11_not_active_or_lapsed_holds_at_the_next_request(service: Service):
    alice = service.an_account(tier="plus")

    service.fetch("UPDATE users SET subscription_tier = 'free' WHERE id = $1", alice.id)
    assert get_user(service, alice.token).json()["tier"] == "free"

    service.fetch("UPDATE users SET is_active = FALSE WHERE id = $1", alice.id)
    assert get_user(service, alice.token).status_code == 401
    assert get_user(service, a_jwt(alice.id)).status_code == 401


def test_admin__A10_is_for_administrators_alone(service: Service):
    alice, root = service.an_account(), service.an_account(is_admin=True)
    name = f"new-{uuid.uuid4().hex[:8]}"

    assert alice.client.post("/api/v1/admin/accounts", json={"username": name}).status_code == 403
    made = root.client.post("/api/v1/admin/accounts", json={"username": name, "tier": "pro"})
    assert (made.status_code, made.json()["tier"]) == (201, "pro")
    assert root.client.post("/api/v1/admin/accounts", json={"username": name}).status_code == 409
    assert root.client.post("/api/v1/admin/accounts", json={"username": "a b"}).status_code == 400
    assert root.client.get(f"/api/v1/admin/accounts/{name}").json()["tier"] == "pro"
    moved = root.client.put(f"/api/v1/admin/accounts/{name}/tier", json={"tier": "plus"})
    assert moved.json()["tier"] == "plus"
    assert root.client.put(f"/api/v1/admin/accounts/{name}/tier", json={"tier": "gold"}).status_code == 400

    for as_jwt in (False, True):
        token = root.client.post("/api/v1/admin/tokens", json={"username": name, "name": "ci", "jwt": as_jwt}).json()
        assert get_user(service, token["token"]).json()["username"] == name
        assert root.client.delete(f"/api/v1/admin/tokens/{token['id']}").status_code == 204
        assert get_user(service, token["token"]).status_code == 401


@pytest.fixture
async def alice(db: asyncpg.Pool):
    return await create_account(db, "alice", tier="plus")


async def test_token__is_kept_as_a_hash_and_ends_when_it_should(db: asyncpg.Pool, alice):
    issued = await issue_token(db, "alice", name="ci", seconds=3600)
    rows = await db.fetch("SELECT * FROM access_tokens")
    assert issued.token not in str([dict(row) for row in rows])
    assert (await identify(db, issued.token, rules=JwtRules())).username == "alice"

    await db.execute("UPDATE access_tokens SET expires_at = NOW() - INTERVAL '1 second'")
    with pytest.raises(NotAuthenticated):
        await identify(db, issued.token, rules=JwtRules())


async def test_token__revoked_by_id_or_itself(db: asyncpg.Pool, alice):
    first, second = [await issue_token(db, "alice", name="ci") for _ in range(2)]

    await revoke_token(db, str(first.id))
    await revoke_token(db, second.token)

    for issued in (first, second):
        with pytest.raises(NotAuthenticated):
            await identify(db, issued.token, rules=JwtRules())
    with pytest.raises(NotFound):
        await revoke_token(db, str(first.id))


class KeyServer(http.server.ThreadingHTTPServer):
    """An issuer's JWKS address that counts who asks."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), KeyHandler)
        self.asked = 0
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.answer = {"keys": [{**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key())), "kid": "k1"}]}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/jwks"


class KeyHandler(http.server.BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        self.server.asked += 1
        body = json.dumps(self.server.answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[KeyServer]:
    server = KeyServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


async def test_jwks__signed_tokens_are_accepted_and_forged_ones_refused(db: asyncpg.Pool, alice, issuer: KeyServer):
    rules = JwtRules(keys=SigningKeys(issuer.url))
    claims = {"user_id": str(alice.id), "exp": int(time.time()) + 600}
    good = jwt.encode(claims, issuer.key, algorithm="RS256", headers={"kid": "k1"})
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    # A2: the public key taken for an HMAC secret.
    public = issuer.answer["keys"][0]["n"]
    forged = [
        jwt.encode(claims, stranger, algorithm="RS256", headers={"kid": "k1"}),
        jwt.encode(claims, public, algorithm="HS256", headers={"kid": "k1"}),
        jwt.encode({"user_id": str(alice.id)}, issuer.key, algorithm="RS256", headers={"kid": "k1"}),
        f"{segment({'alg': 'none', 'kid': 'k1'})}.{segment(claims)}.",
    ]

    assert (await identify(db, good, rules=rules)).username == "alice"
    for token in forged:
        with pytest.raises(NotAuthenticated):
            await identify(db, token, rules=rules)


async def test_jwks__A4_unknown_key_ids_do_not_make_it_ask_again(db: asyncpg.Pool, alice, issuer: KeyServer):
    now = 1000.0
    keys = SigningKeys(issuer.url, clock=lambda: now)
    rules = JwtRules(keys=keys)

    for number in range(50):
        token = jwt.encode({"user_id": "x"}, issuer.key, algorithm="RS256", headers={"kid": f"unknown-{number}"})
        with pytest.raises(NotAuthenticated):
            await identify(db, token, rules=rules)
    assert issuer.asked == 1

    now += 61
    assert await keys.find("still unknown") is None
    assert issuer.asked == 2


async def test_jwks__old_keys_stay_when_the_issuer_answers_nonsense(issuer: KeyServer):
    now = 1000.0
    keys = SigningKeys(issuer.url, clock=lambda: now)
    assert await keys.find("k1") is not None

    issuer.answer = {"keys": "none"}
    now += 61
    await keys.find("k2")

    assert await keys.find("k1") is not None
