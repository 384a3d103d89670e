"""`prpm test --local`: the engine in this process against a model server, with no service at all."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standins.model_server import ModelServer, model_server_in_thread
from tests.standins.service import PACKAGE_ID, TOKEN, Reply, Service

PRPM = Path(sys.executable).parent / "prpm"


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with model_server_in_thread() as server:
        yield server


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A working folder with one rule and a suite of two cases."""
    folder = tmp_path / "polite"
    (folder / ".cursor" / "rules").mkdir(parents=True)
    (folder / ".cursor" / "rules" / "polite.mdc").write_text("---\ndescription: Be polite.\n---\nSay hello.\n")
    suite = {
        "tests": [
            {"description": "Greets", "input": "Hi", "assert": [{"type": "contains", "value": "hello"}]},
            {"description": "Thanks", "input": "Bye", "assert": [{"type": "contains", "value": "thank"}]},
        ]
    }
    (folder / "prpm.test.json").write_text(json.dumps(suite))
    manifest = {
        "name": "polite", "version": "1.0.0", "description": "Makes answers polite.", "format": "cursor",
        "subtype": "rule", "files": [".cursor/rules/polite.mdc"],
    }  # fmt: skip
    (folder / "prpm.json").write_text(json.dumps(manifest))
    return folder


def prpm(home: Path, *arguments: str, local_url: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`prpm`, run to its end by a user with an empty home."""
    base = {"PATH": "", "HOME": str(home), "LC_ALL": "C.UTF-8", "PRPM_LOCAL_URL": local_url}
    return subprocess.run(
        [PRPM, *arguments],
        env=base | environ, cwd=home, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_local__a_folder_is_tested_on_the_users_own_proxy(tmp_path: Path, models: ModelServer, package: Path) -> None:
    models.mock.answers.extend(["well, hello", "thank you, hello"])

    ran = prpm(
        tmp_path, "test", "polite", "--local", "-m", "mock-a", local_url=models.url,
        PRPM_LOCAL_KEY="sk-mine", PRPM_TOKEN=TOKEN,
    )  # fmt: skip

    head, _, tail = ran.stdout.partition("   Total Duration: ")
    assert (
        head
        == """\
🔧 Using local testing

⚡ Running tests with LiteLLM...

✅ Test completed!

📊 Test Results:

✅ Greets (100%)
✅ Thanks (100%)

📈 Summary:

   Total Tests: 2
   Passed: 2 ✅
   Failed: 0 ❌
   Overall Score: 100.0%
"""
    )
    assert "   Cost: unknown (no price is known for these models)\n" in tail
    assert ran.returncode == 0
    assert set(models.mock.last_keys) == {"Bearer sk-mine"}
    (first, _) = models.mock.last_bodies
    assert first["model"] == "mock-a"
    assert "Say hello." in first["messages"][0]["content"]


def test_local__a_failing_case_ends_with_1_and_says_why(tmp_path: Path, models: ModelServer, package: Path) -> None:
    ran = prpm(tmp_path, "test", "polite", "--local", "-m", "mock-a", local_url=models.url)

    assert "❌ Greets (0%)\n   contains: " in ran.stdout
    assert "   Answer: ok " in ran.stdout
    assert ran.returncode == 1


def test_local__several_models_and_json(tmp_path: Path, models: ModelServer, package: Path) -> None:
    models.mock.answers.extend(["hello and thank you"] * 4)

    ran = prpm(tmp_path, "test", "polite", "--local", "-m", "mock-a,mock-b", "--json", local_url=models.url)

    document = json.loads(ran.stdout)
    assert document["conclusion"] == "passed"
    assert [(row["title"], row["model"]) for row in document["test_cases"]] == [
        ("Greets", "mock-a"), ("Greets", "mock-b"), ("Thanks", "mock-a"), ("Thanks", "mock-b"),
    ]  # fmt: skip
    assert "🔧 Using local testing" in ran.stderr
    assert ran.returncode == 0


def test_local__a_model_that_only_fails_is_inconclusive(tmp_path: Path, models: ModelServer, package: Path) -> None:
    models.mock.fail_next, models.mock.fail_status = 100, 400

    ran = prpm(tmp_path, "test", "polite", "--local", "-m", "mock-a", local_url=models.url)

    assert "⚠️ Greets\n   provider: " in ran.stdout
    assert "Traceback" not in ran.stderr
    assert ran.returncode == 2


def test_local__without_token_or_proxy_the_user_is_told_what_to_do(tmp_path: Path) -> None:
    ran = prpm(tmp_path, "test", "@author/package", local_url="http://127.0.0.1:9")

    assert ran.stdout == "💡 Tip: Login with `prpm login` to use hosted testing\n\n🔧 Using local testing\n\n"
    assert (
        ran.stderr
        == """\
❌ Error: No LiteLLM proxy answers at http://127.0.0.1:9

To use local testing:
1. Install LiteLLM: pip install 'litellm[proxy]==1.106.2'
2. Set API keys: export ANTHROPIC_API_KEY=your_key
3. Choose the proxy's own key: export PRPM_LOCAL_KEY=sk-$(openssl rand -hex 32)
4. Name the models in litellm.yaml:
   model_list:
     - model_name: claude-sonnet-4
       litellm_params: {model: anthropic/claude-sonnet-4-6}
5. Start proxy: LITELLM_MASTER_KEY=$PRPM_LOCAL_KEY litellm --config litellm.yaml --host 127.0.0.1 --port 4000
6. Run tests in another terminal with the same PRPM_LOCAL_KEY: prpm test @author/package --local

Or upgrade to prpm+ for zero-setup hosted testing:
  prpm subscribe
"""
    )
    assert ran.returncode == 2


def test_local__without_a_token_a_reachable_proxy_is_used(tmp_path: Path, models: ModelServer, package: Path) -> None:
    models.mock.answers.extend(["hello", "thank you"])

    ran = prpm(tmp_path, "test", "polite", "-m", "mock-a", local_url=models.url)

    assert ran.stdout.startswith("💡 Tip: Login with `prpm login` to use hosted testing\n\n🔧 Using local testing")
    assert ran.returncode == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-u"], "Local results cannot be uploaded"),
        (["-v"], "Local results cannot be verified"),
    ],
)
def test_local__what_only_the_service_can_do_is_refused(
    tmp_path: Path, models: ModelServer, package: Path, options: list[str], sentence: str
) -> None:
    ran = prpm(tmp_path, "test", "polite", "--local", *options, local_url=models.url)

    assert sentence in ran.stderr
    assert ran.returncode == 2
    assert models.mock.requests == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-p", "github"], "Name your plugins file in PRPM_PLUGINS to use -p with --local."),
        (["--framework", "claude-agent"], "only Claude skills, agents and slash commands are run as agents"),
    ],
)
def test_local__what_needs_an_agent_is_refused_for_what_is_none(
    tmp_path: Path, models: ModelServer, package: Path, options: list[str], sentence: str
) -> None:
    ran = prpm(tmp_path, "test", "polite", "--local", "-m", "mock-a", *options, local_url=models.url)

    assert sentence in ran.stderr
    assert ran.returncode == 2
    assert models.mock.requests == 0


def test_local__a_package_without_tests_is_said(tmp_path: Path, models: ModelServer, package: Path) -> None:
    (package / "prpm.test.json").unlink()

    ran = prpm(tmp_path, "test", "polite", "--local", "-m", "mock-a", local_url=models.url)

    assert ran.stderr == (
        "❌ The package has no tests. Add a file prpm.test.yaml (--init writes one), name one with --suite, or let a "
        "model write cases for this run with --generate.\n"
    )
    assert ran.returncode == 2


def test_local__a_suite_file_replaces_the_packages_own(tmp_path: Path, models: ModelServer, package: Path) -> None:
    (tmp_path / "mine.yaml").write_text("tests:\n  - description: Mine\n    input: Hi\n")

    ran = prpm(tmp_path, "test", "polite", "--local", "-m", "mock-a", "--suite", "mine.yaml", local_url=models.url)

    assert "✅ Mine (100%)" in ran.stdout
    assert "Greets" not in ran.stdout


@pytest.mark.parametrize("status", [401, 403, 500])
def test_local__a_refused_key_is_said(tmp_path: Path, service: Service, package: Path, status: int) -> None:
    service.set("GET /v1/models", Reply({"error": "x"}, status=status))

    ran = prpm(tmp_path, "test", "polite", "--local", local_url=service.url, PRPM_LOCAL_KEY=TOKEN)

    assert ran.stderr == (
        f"❌ The proxy at {service.url} refused the key (HTTP {status}). "
        "Set PRPM_LOCAL_KEY to its master key (LITELLM_MASTER_KEY).\n"
    )
    assert ran.returncode == 2


def test_local__a_model_that_the_proxy_does_not_have_is_said(tmp_path: Path, service: Service, package: Path) -> None:
    service.set("GET /v1/models", Reply({"data": [{"id": "gpt-4o"}, {"id": "llama"}]}))

    ran = prpm(tmp_path, "test", "polite", "--local", local_url=service.url, PRPM_LOCAL_KEY=TOKEN)

    assert ran.stderr == (
        f"❌ The proxy at {service.url} has no model named claude-sonnet-4.\n   - models: it has gpt-4o, llama\n"
    )
    assert ran.returncode == 2


def test_local__a_judge_that_the_proxy_does_not_have_is_said_before_anything_is_asked(
    tmp_path: Path, service: Service, package: Path
) -> None:
    service.set("GET /v1/models", Reply({"data": [{"id": "gpt-4o"}]}))
    judged = {"judge": "gtp-4o", "tests": [{"input": "x", "assert": [{"type": "llm-rubric", "value": "kind"}]}]}
    (package / "prpm.test.json").write_text(json.dumps(judged))

    ran = prpm(tmp_path, "test", "polite", "--local", "-m", "gpt-4o", local_url=service.url, PRPM_LOCAL_KEY=TOKEN)

    assert ran.stderr == (
        f"❌ The proxy at {service.url} has no model named gtp-4o, which the suite wants to be judged by.\n"
        "   - models: it has gpt-4o\n"
    )
    assert ran.returncode == 2


def test_local__what_the_error_says_is_not_said_twice(tmp_path: Path, models: ModelServer, package: Path) -> None:
    (package / "prpm.test.json").write_text('{"tests": []}')

    ran = prpm(tmp_path, "test", "polite", "--local", "-m", "mock-a", local_url=models.url)

    assert ran.stderr == "❌ prpm.test.json, line 1: tests: must be a list of at least one test case\n"


def test_local__a_published_package_is_fetched_without_a_token(
    tmp_path: Path, models: ModelServer, service: Service
) -> None:
    body = gzip.compress(b"Say hello.")
    publish(service, body)
    (tmp_path / "mine.yaml").write_text("tests:\n  - description: Mine\n    input: Hi\n")

    ran = prpm(
        tmp_path, "test", "@alice/review@1.0.2", "--suite", "mine.yaml", "-m", "mock-a",
        local_url=models.url, PRPM_REGISTRY_URL=service.url,
    )  # fmt: skip

    assert "✅ Mine (100%)" in ran.stdout
    assert "Say hello." in models.mock.last_bodies[0]["messages"][0]["content"]
    assert ran.returncode == 0


def test_local__I8_a_package_that_is_not_what_was_published_is_refused(
    tmp_path: Path, models: ModelServer, service: Service
) -> None:
    publish(service, gzip.compress(b"Say hello."), content_hash=hashlib.sha256(b"other").hexdigest())

    ran = prpm(tmp_path, "test", "@alice/review@1.0.2", "-m", "mock-a", local_url=models.url,
               PRPM_REGISTRY_URL=service.url)  # fmt: skip

    assert "does not match its checksum" in ran.stderr
    assert ran.returncode == 2


def test_local__G10_the_token_does_not_follow_an_archive_to_another_host(
    tmp_path: Path, models: ModelServer, service: Service
) -> None:
    with Service() as store:
        store.set("GET /api/v1/packages/{name}/signed.tar.gz", Reply(gzip.compress(b"Say hello.")))
        url = f"{store.url}/api/v1/packages/x/signed.tar.gz"
        publish(service, b"")
        service.set("GET /api/v1/packages/{name}/1.0.2.tar.gz", Reply(b"", status=302, headers={"location": url}))
        (tmp_path / "mine.yaml").write_text("tests:\n  - description: Mine\n    input: Hi\n")

        ran = prpm(
            tmp_path, "test", "@alice/review@1.0.2", "--local", "--suite", "mine.yaml", "-m", "mock-a",
            local_url=models.url, PRPM_REGISTRY_URL=service.url, PRPM_TOKEN=TOKEN,
        )  # fmt: skip

        assert ran.returncode == 0
        assert all("authorization" in seen.headers for seen in service.seen)
        assert [seen.headers.get("authorization") for seen in store.seen] == [None]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "http://[", "ftp://127.0.0.1/x", "", "http://"])
def test_local__an_archive_nowhere_safe_is_refused(
    tmp_path: Path, models: ModelServer, service: Service, address: str
) -> None:
    version = {"version": "1.0.2", "tarball_url": address}
    service.set("GET /api/v1/packages/{name}/{version}", Reply(version))

    ran = prpm(tmp_path, "test", "@alice/review@1.0.2", "-m", "mock-a", local_url=models.url,
               PRPM_REGISTRY_URL=service.url)  # fmt: skip

    assert ran.returncode == 2
    assert ran.stderr.startswith("❌ ")
    assert "Traceback" not in ran.stderr


def publish(service: Service, body: bytes, **version: str) -> None:
    """`@alice/review` 1.0.2 is one gzip'd text."""
    path = "/api/v1/packages/%40alice%2Freview/1.0.2.tar.gz"
    found = {"version": "1.0.2", "tarball_url": service.url + path} | version
    package = {"id": PACKAGE_ID, "name": "@alice/review", "format": "claude", "subtype": "skill"}
    service.set("GET /api/v1/packages/{name}", Reply(package | {"latest_version": found}))
    service.set("GET /api/v1/packages/{name}/{version}", Reply(found))
    service.set("GET /api/v1/packages/{name}/1.0.2.tar.gz", Reply(body))


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


def test_local__code_of_a_suite_runs_only_when_it_is_allowed(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    suite = {"tests": [{"input": "Hi", "assert": [{"type": "javascript", "value": "output.endsWith('hello')"}]}]}
    (package / "prpm.test.json").write_text(json.dumps(suite))
    models.mock.answers.append("well, hello")
    command = ("test", "polite", "--local", "-m", "mock-a")

    refused = prpm(tmp_path, *command, local_url=models.url)
    allowed = prpm(tmp_path, *command, "--allow-code", local_url=models.url)

    assert refused.returncode == 2
    assert "javascript: runs the author's code, which happens on the author's own machine only" in refused.stderr
    assert (allowed.returncode, "Passed: 1" in allowed.stdout) == (0, True)


def test_local__code_is_never_allowed_on_the_service(tmp_path: Path, models: ModelServer, package: Path) -> None:
    ran = prpm(tmp_path, "test", "polite", "--allow-code", local_url=models.url, PRPM_TOKEN=TOKEN)

    assert ran.returncode == 2
    assert "use it with --local. The service runs none." in ran.stderr
