"""`~/.prpmrc`, the environment above it, and who may say where the token goes."""

from __future__ import annotations

import json
import stat

import pytest

from tests.standins.service import TOKEN, Reply, Service
from tests.unit.cli.conftest import User


def stored(user: User) -> dict[str, object]:
    content: dict[str, object] = json.loads((user.home / ".prpmrc").read_text())
    return content


def store(user: User, **content: object) -> None:
    (user.home / ".prpmrc").write_text(json.dumps(content))


def test_login__keeps_the_token_for_its_owner_alone(user: User, service: Service) -> None:
    store(user, registryUrl=service.url, defaultFormat="claude", telemetryEnabled=False)
    (user.home / ".prpmrc").chmod(0o644)

    ran = user.runs("login", "--token", TOKEN)

    assert ran.out == f"✅ Logged in as alice ({service.url})\n"
    assert stored(user) == {
        "registryUrl": service.url,
        "defaultFormat": "claude",
        "telemetryEnabled": False,
        "token": TOKEN,
        "username": "alice",
        "userId": "u1",
        "email": "alice@example.org",
    }
    assert stat.S_IMODE((user.home / ".prpmrc").stat().st_mode) == 0o600
    assert [path.name for path in user.home.iterdir()] == [".prpmrc"]


def test_login__remembers_the_server_that_the_token_is_for(user: User, service: Service) -> None:
    user.environ.setenv("PRPM_REGISTRY_URL", service.url + "/")

    user.runs("login", "--token", TOKEN)
    user.environ.delenv("PRPM_REGISTRY_URL")

    assert user.runs("whoami").out == f"alice ({service.url})\n"


def test_login__a_refused_token_is_not_kept(user: User, service: Service) -> None:
    store(user, registryUrl=service.url)

    ran = user.runs("login", "--token", "wrong")

    assert ran.err.startswith("❌ Unauthorized\n")
    assert ran.code == 2
    assert stored(user) == {"registryUrl": service.url}


def test_login__a_linked_file_stays_a_link(user: User, service: Service) -> None:
    target = user.folder / "dotfiles"
    target.write_text(json.dumps({"registryUrl": service.url}))
    (user.home / ".prpmrc").symlink_to(target)

    user.runs("login", "--token", TOKEN)

    assert (user.home / ".prpmrc").is_symlink()
    assert json.loads(target.read_text())["token"] == TOKEN


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "schlüssel", "x" * 9000])
def test_login__a_token_that_cannot_be_one_is_refused_unsent(user: User, service: Service, token: str) -> None:
    store(user, registryUrl=service.url)

    ran = user.runs("login", "--token", token)

    assert ran.code == 2
    assert "characters that no token has" in ran.err
    assert token not in ran.err
    assert service.seen == []


def test_logout__forgets_the_token_and_nothing_else(user: User, service: Service) -> None:
    store(user, registryUrl=service.url, token=TOKEN, username="alice", cursor={"tools": ["a"]})

    first, second = user.runs("logout"), user.runs("logout")

    assert (first.out, second.out) == ("✅ Logged out\n", "You were not logged in.\n")
    assert stored(user) == {"registryUrl": service.url, "cursor": {"tools": ["a"]}}


def test_whoami__without_a_token_says_how_to_log_in(user: User) -> None:
    ran = user.runs("whoami")

    assert ran.err == "❌ Authentication required\n   Run `prpm login`, or set PRPM_TOKEN.\n"
    assert ran.code == 2


def test_config__the_environment_beats_the_file(user: User, service: Service) -> None:
    store(user, registryUrl="http://127.0.0.1:9", token="old")
    user.logs_in(service)

    assert user.runs("whoami").out == f"alice ({service.url})\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"token": "x",\n}', "is not valid JSON (line 2)"),
        ("[1]", "must hold a JSON object"),
        ('{"token": 5}', "`token` must be a text"),
        ('{"registryUrl": "ftp://x"}', "must be an address such as"),
        ('{"registryUrl": "https://user:pw@x"}', "must be an address such as"),
        ("[" * 100_000, "is not valid JSON"),
        ("\x00\xff", "is not valid JSON"),
    ],
)
def test_config__a_broken_file_is_named(user: User, content: str, sentence: str) -> None:
    (user.home / ".prpmrc").write_text(content, encoding="latin-1")

    ran = user.runs("whoami")

    assert ran.code == 2
    assert sentence in ran.err


def test_config__G8_a_folder_cannot_redirect_the_token(user: User, service: Service) -> None:
    store(user, registryUrl=service.url, token=TOKEN)
    with Service() as thief:
        (user.folder / ".prpmrc").write_text(json.dumps({"registryUrl": thief.url, "token": "theirs"}))

        ran = user.runs("whoami")

        assert ran.out == f"alice ({service.url})\n"
        assert "registryUrl and token in this folder's .prpmrc ignored" in ran.err
        assert thief.seen == []


def test_config__G8_a_folder_that_says_the_same_is_not_mentioned(user: User, service: Service) -> None:
    store(user, registryUrl=service.url, token=TOKEN)
    (user.folder / ".prpmrc").write_text(json.dumps({"registryUrl": service.url, "defaultFormat": "cursor"}))

    assert user.runs("whoami").err == ""


def test_config__a_token_over_plain_http_is_warned_about(user: User) -> None:
    user.environ.setenv("PRPM_TOKEN", TOKEN)
    user.environ.setenv("PRPM_REGISTRY_URL", "http://registry.invalid")

    ran = user.runs("whoami")

    assert "http://registry.invalid is not encrypted" in ran.err
    assert TOKEN not in ran.err + ran.out


def test_usage__reads_like_the_rest(alice: User) -> None:
    assert (
        alice.runs("usage").out
        == """\
📊 Usage this month:

   Tier: plus
   Test runs: 23
   Remaining: 77 of 100
   Concurrent jobs: 2
   Total Tokens: 3,421
   Cost: $0.0012
"""
    )


def test_usage__unlimited_is_a_word(alice: User, service: Service) -> None:
    report = {
        "current_month": {"test_runs_count": 23},
        "limits": {"tier": "enterprise", "test_runs_per_month": 10**9, "concurrent_jobs": 20},
        "remaining": {"test_runs": 10**9 - 23},
    }
    service.set("GET /api/v1/users/me/test-usage", Reply(report))

    assert "   Remaining: unlimited\n" in alice.runs("usage").out


def test_models__are_listed_with_what_they_cost(user: User, service: Service) -> None:
    user.environ.setenv("PRPM_REGISTRY_URL", service.url)

    claude = (
        "   claude-sonnet-4  ✅  default  $3 in, $15 out per million tokens  "
        "retired 2026-06-15, answered by claude-sonnet-4-6"
    )
    assert user.runs("models").out.splitlines() == [
        "🤖 Models:",
        "",
        claude,
        "   gpt-4-turbo      ❌ not available here  retired 2026-10-23",
    ]
    assert json.loads(user.runs("models", "--json").out)["models"][0]["name"] == "gpt-4-turbo"
