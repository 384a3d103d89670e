"""The account's page as a browser asks for it: what it shows to whom, and that only its own forms change anything."""

from __future__ import annotations

import uuid

import httpx
import pytest

from tests.integration.test_pages import COOKIE, HOSTILE, Tags, browser, is_inert, log_in, session_of
from tests.organizations import Organization, an_organization
from tests.service import Account, Service

SLACK = "https://hooks.slack.com/services/T00000000/B00000000/verysecretword"


@pytest.fixture
def org(service: Service) -> Organization:
    return an_organization(service)


def a_repository(service: Service, account: str, name: str = "acme/prompts") -> str:
    admin = service.an_account(is_admin=True)
    number = uuid.uuid4().int % 2**62
    link = {"account": account, "repository": name, "repository_id": number, "owner_id": 5}
    answer = admin.client.post("/api/v1/trusted-repositories", json=link)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def a_token(org: Organization, name: str = "nightly") -> tuple[str, str]:
    """Its id and the token."""
    answer = org.owner.client.post(f"/api/v1/organizations/{org.name}/tokens", json={"name": name}).json()
    return answer["id"], answer["token"]


def send(client: httpx.Client, service: Service, path: str, *, account: str = "", **headers: str) -> httpx.Response:
    """A form of the page, as a browser sends it."""
    return client.post(path, data={"account": account}, headers={"Origin": service.url} | headers)


def test_account__shows_who_the_month_targets_repositories_and_tokens(service: Service, org: Organization) -> None:
    org.owner.client.post(f"/api/v1/notify-targets?account={org.name}", json={"kind": "slack", "url": SLACK})
    a_repository(service, org.name)
    a_token(org)

    page = browser(service, org.owner).get(f"/account?account={org.name}")

    assert page.status_code == 200
    text = Tags(page.text).text
    for words in (org.name, "Organisation", "your role: owner", "of 100", "slack", "fine", "acme/prompts", "nightly"):
        assert words in text, words
    assert "verysecretword" not in page.text
    assert "prpm_" not in page.text  # of tokens only what they are for
    assert is_inert(page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (page.headers["cache-control"], page.headers["referrer-policy"]) == ("no-store", "same-origin")


def test_account__of_a_person_lists_their_organisations_and_own_tokens(service: Service, org: Organization) -> None:
    page = browser(service, org.member).get("/account")

    text = Tags(page.text).text
    assert org.member.username in text
    assert f"{org.name} (member)" in " ".join(text.split())
    assert "test" in text  # the token that the test made for them, by its name


def test_account__a_member_sees_the_month_and_neither_tokens_nor_repositories(
    service: Service, org: Organization
) -> None:
    a_repository(service, org.name)
    a_token(org)

    page = browser(service, org.member).get(f"/account?account={org.name}")

    text = Tags(page.text).text
    assert text.count("Its owners and admins see these.") == 2
    assert "nightly" not in text
    assert "acme/prompts" not in text


def test_account__of_strangers_and_of_nobody_look_alike(service: Service, org: Organization) -> None:
    """A12: a 404 in the same words."""
    stranger = browser(service, service.an_account())

    found = [stranger.get(f"/account?account={name}") for name in (org.name, "org-that-is-not-there")]

    assert [page.status_code for page in found] == [404, 404]
    assert found[0].text.replace(org.name, "X") == found[1].text.replace("org-that-is-not-there", "X")


def test_account__without_a_session_asks_to_log_in_and_comes_back(service: Service) -> None:
    page = service.visitor().get("/account?account=acme")

    assert page.status_code == 401
    (next_field,) = [tag for name, tag in Tags(page.text).found if name == "input" and tag.get("name") == "next"]
    assert next_field["value"] == "/account?account=acme"


@pytest.mark.parametrize(
    ("used", "said"), [(49, None), (50, "50 %"), (80, "80 %"), (99, "80 %"), (100, "All of this month’s test runs")]
)
def test_account__warns_at_50_80_and_100_per_cent(service: Service, used: int, said: str | None) -> None:
    alice = service.an_account(tier="plus")
    service.fetch(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count) VALUES ($1, DATE_TRUNC('month', NOW()), $2)",
        alice.id, used,
    )  # fmt: skip

    text = Tags(browser(service, alice).get("/account").text).text

    assert ("⚠️" in text) == (said is not None)
    assert (said or f"{used} ") in text


def test_account__names_of_others_stay_text(service: Service, org: Organization) -> None:
    """O10: what somebody called a token or a repository is no markup."""
    a_token(org, name=HOSTILE[:100])
    a_repository(service, org.name, name=f"acme/{HOSTILE[:200]}")

    page = browser(service, org.owner).get(f"/account?account={org.name}")

    assert page.status_code == 200
    assert is_inert(page.text)
    assert "<script>" not in page.text


def test_revoke__ends_a_token_at_once(service: Service, org: Organization) -> None:
    token_id, token = a_token(org)
    program = service.visitor()
    program.headers["Authorization"] = f"Bearer {token}"
    assert program.get("/api/v1/user").status_code == 200
    admin = browser(service, org.admin)

    done = send(admin, service, f"/account/tokens/{token_id}/revoke", account=org.name)

    assert (done.status_code, done.headers["location"]) == (303, f"/account?account={org.name}")
    assert program.get("/api/v1/user").status_code == 401
    assert "nightly" not in admin.get(f"/account?account={org.name}").text
    assert send(admin, service, f"/account/tokens/{token_id}/revoke", account=org.name).status_code == 404


def test_revoke__of_ones_own_token(service: Service) -> None:
    alice = service.an_account()
    own = browser(service, alice)
    ((token_id,),) = service.fetch("SELECT id::TEXT FROM access_tokens WHERE user_id = $1 AND kind = 'api'", alice.id)

    assert send(own, service, f"/account/tokens/{token_id}/revoke").status_code == 303

    assert alice.client.get("/api/v1/user").status_code == 401


def test_remove__trusts_a_repository_no_longer(service: Service, org: Organization) -> None:
    trust_id = a_repository(service, org.name)

    done = send(
        browser(service, org.admin), service, f"/account/trusted-repositories/{trust_id}/remove", account=org.name
    )

    assert done.status_code == 303
    assert service.fetch("SELECT FROM trusted_repositories WHERE id = $1::TEXT::UUID", trust_id) == []


FORGED = {
    "no origin": ({"Origin": None}, 403),
    "another site": ({"Origin": "https://evil.example"}, 403),
    "a sandboxed frame": ({"Origin": "null"}, 403),
    "another port": ({"Origin": "http://127.0.0.1:1"}, 403),
    "no session": ({"Cookie": None}, 401),
    "a session that is none": ({"Cookie": f"{COOKIE}=prpm_nothing"}, 401),
    "a token in place of a session": ({"Cookie": None, "Authorization": True}, 401),
}


@pytest.mark.parametrize("case", list(FORGED))
def test_forms__A17_that_were_not_sent_by_this_site_change_nothing(
    service: Service, org: Organization, case: str
) -> None:
    token_id, token = a_token(org)
    changes, status = FORGED[case]
    session = session_of(log_in(service, org.owner.token))
    headers = {"Origin": service.url, "Cookie": f"{COOKIE}={session}"} | changes
    if headers.get("Authorization"):
        headers["Authorization"] = f"Bearer {org.owner.token}"

    answer = service.visitor().post(
        f"/account/tokens/{token_id}/revoke",
        data={"account": org.name},
        headers={name: value for name, value in headers.items() if isinstance(value, str)},
    )

    assert answer.status_code == status
    program = service.visitor()
    program.headers["Authorization"] = f"Bearer {token}"
    assert program.get("/api/v1/user").status_code == 200


def test_forms__of_others_change_nothing(service: Service, org: Organization) -> None:
    """Whose role is too small is told so; whose account it is not, sees nothing there."""
    token_id, _ = a_token(org)
    other: Account = service.an_account()

    path = f"/account/tokens/{token_id}/revoke"
    answers = [
        send(browser(service, org.member), service, path, account=org.name),
        send(browser(service, other), service, path, account=org.name),
        send(browser(service, other), service, path),
        send(browser(service, other), service, "/account/tokens/nonsense/revoke"),
    ]

    assert [answer.status_code for answer in answers] == [403, 404, 404, 404]
    ((is_active,),) = service.fetch("SELECT is_active FROM access_tokens WHERE id = $1::TEXT::UUID", token_id)
    assert is_active
