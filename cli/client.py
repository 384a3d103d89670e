"""The service's API as one class: methods of the registry's client, in Python names, with its sentences."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

import msgspec

from cli import answers
from cli.errors import AuthenticationRequired, CannotReachServer, InvalidAnswer, NoEvents, RequestRefused
from cli.event_stream import ServerEvent, read_events
from cli.user_config import is_loopback
from evals.models import Secret

# Imported where it is used, as it takes a third of a second: a command says what it does before it asks anybody.
if TYPE_CHECKING:
    import httpx

Answer = TypeVar("Answer")

# 2,000 rows with long answers are about 30 MB; more is no answer of ours.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ARCHIVE_BYTES = 10 * 1024 * 1024
SUBMIT_TRIES = 3
TARGETS = "/api/v1/notify-targets"
TRUSTED = "/api/v1/trusted-repositories"
HOOKS = "/api/v1/hooks"
_TRY_AGAIN = frozenset({502, 503, 504})


class RegistryClient:
    """Speaks to one server with one token. Close it after use.

    Every method raises CannotReachServer, RequestRefused or InvalidAnswer; those that need a token also
    AuthenticationRequired. Redirects are not followed, so the token reaches this server only.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: Secret | None = None,
        timeout_seconds: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep

    @cached_property
    def _http(self) -> httpx.Client:
        import httpx

        return httpx.Client(
            timeout=httpx.Timeout(self._timeout_seconds, connect=10.0),
            # The environment's proxies are for the world outside: asked for 127.0.0.1, one looks at itself.
            trust_env=not is_loopback(self.base_url),
            follow_redirects=False,
            headers={"User-Agent": "prpm-testing", "Accept": "application/json"},
        )

    def close(self) -> None:
        """Connections are closed, if any was made. Safe to call twice."""
        if "_http" in self.__dict__:
            self._http.close()

    def submit_test_job(self, request: Mapping[str, Any]) -> answers.SubmittedJob:
        """A job is queued, once: one Idempotency-Key covers all tries; a lost answer costs no second run."""
        self._need_token("Authentication required for hosted testing")
        return self._submit("/api/v1/test-jobs/run", msgspec.json.encode(request))

    def _submit(self, path: str, content: bytes) -> answers.SubmittedJob:
        headers = {"Idempotency-Key": str(uuid.uuid4())} | ({"Content-Type": "application/json"} if content else {})
        for attempt in range(1, SUBMIT_TRIES + 1):
            try:
                body = self._call("POST", path, content=content, headers=headers)
                return self._decode(body, answers.SubmittedJob)
            except (CannotReachServer, RequestRefused) as error:
                refused_for_good = isinstance(error, RequestRefused) and error.status not in _TRY_AGAIN
                if refused_for_good or attempt == SUBMIT_TRIES:
                    raise
                self._sleep(_pause_seconds(error, attempt=attempt))
        raise AssertionError("unreachable")

    def estimate_test_job(self, request: Mapping[str, Any]) -> answers.Estimate:
        """What a run would take; `request` says `dry_run`. Nothing is kept or charged."""
        self._need_token("Authentication required for an estimate")
        headers = {"Content-Type": "application/json"}
        body = self._call("POST", "/api/v1/test-jobs/run", content=msgspec.json.encode(request), headers=headers)
        return self._decode(body, answers.Estimate)

    def upload_snapshot(
        self, archive: bytes, *, account: str | None = None, package: str | None = None
    ) -> answers.Snapshot:
        """A working folder's tar.gz is stored by its content; sending it twice changes nothing.

        `account`: the organisation that it is stored for. `package`: which one, where the folder holds several.
        """
        self._need_token("Authentication required for hosted testing")
        body = self._call(
            "POST",
            "/api/v1/package-snapshots" + _query(account=account, package=package),
            content=archive,
            headers={"Content-Type": "application/gzip"},
        )
        return self._decode(body, answers.Snapshot)

    def get_test_job(self, job_id: str) -> answers.Job:
        """The job as it stands now."""
        self._need_token("Authentication required")
        path = f"/api/v1/test-jobs/{quote(job_id, safe='')}"
        return self._decode(self._call("GET", path, sentence="Failed to get test job"), answers.Job)

    def wait_for_test_job(
        self, job_id: str, *, wait_seconds: int, version: str | None
    ) -> tuple[answers.Job | None, str | None]:
        """The job and its version, as soon as it is another than `version` or after the wait; no job if it is not.

        Servers that know neither answer at once, without a version.
        """
        self._need_token("Authentication required")
        path = f"/api/v1/test-jobs/{quote(job_id, safe='')}" + (f"?wait={wait_seconds}" if wait_seconds else "")
        headers = {"If-None-Match": version} if version else {}
        response, body = self._send("GET", self.base_url + path, headers=headers)
        if response.status_code == 304 and version:
            return None, version
        body = self._checked(response, body, sentence="Failed to get test job")
        return self._decode(body, answers.Job), response.headers.get("etag")

    @contextmanager
    def job_events(
        self, job_id: str, *, after: str | None, silence_seconds: float
    ) -> Iterator[Iterator[ServerEvent | None]]:
        """The job's events behind the id `after`, as they come; None for a sign of life.

        Raises NoEvents where there are none to be had, and CannotReachServer when the connection breaks or is
        silent for so long.
        """
        import httpx

        self._need_token("Authentication required")
        url = f"{self.base_url}/api/v1/test-jobs/{quote(job_id, safe='')}/events"
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        timeout = httpx.Timeout(30.0, connect=10.0, read=silence_seconds)
        with _as_unreachable(url), self._http.stream("GET", url, headers=headers, timeout=timeout) as response:
            kind = response.headers.get("content-type", "")
            if response.status_code != 200 or not kind.startswith("text/event-stream"):
                raise NoEvents(f"{_host(url)} sends no events.")
            yield read_events(response.iter_lines())

    def decode_event(self, event: ServerEvent, kind: type[Answer]) -> Answer:
        """What an event says. Raises InvalidAnswer."""
        return self._decode(event.data.encode(), kind)

    def retry_test_job(self, job_id: str) -> answers.SubmittedJob:
        """A finished job is sent again as a new one, once: as `submit_test_job`."""
        self._need_token("Authentication required")
        return self._submit(f"/api/v1/test-jobs/{quote(job_id, safe='')}/retry", b"")

    def get_test_results(self, job_id: str) -> bytes:
        """The results of a finished job as JSON text; `read_results` reads them."""
        self._need_token("Authentication required")
        path = f"/api/v1/test-jobs/{quote(job_id, safe='')}/results"
        return self._call("GET", path, sentence="Failed to get test results")

    def read_results(self, body: bytes) -> answers.Results:
        """The rows in an answer of `get_test_results`."""
        return self._decode(body, answers.Results)

    def list_test_jobs(self, **filters: str | int | None) -> answers.JobList:
        """My jobs, newest first. `filters` are the route's own: status, package, account, cursor, limit."""
        self._need_token("Authentication required")
        body = self._call("GET", "/api/v1/test-jobs" + _query(**filters), sentence="Failed to list jobs")
        return self._decode(body, answers.JobList)

    def cancel_test_job(self, job_id: str) -> None:
        """Ask for the job's end: at once if it waits, within seconds if it runs."""
        self._need_token("Authentication required")
        self._call("POST", f"/api/v1/test-jobs/{quote(job_id, safe='')}/cancel", sentence="Failed to cancel the job")

    def prove_repository(self, proof: Mapping[str, Any]) -> answers.TrustedRepository:
        """Workflows of a repository that the token in `proof` administers at its forge need no key from now on."""
        self._need_token("Authentication required")
        body = self._call(
            "POST",
            f"{TRUSTED}/proofs",
            content=msgspec.json.encode(proof),
            headers={"Content-Type": "application/json"},
            sentence="Failed to link the repository",
        )
        return self._decode(body, answers.TrustedRepository)

    def list_trusted_repositories(self, *, account: str | None = None) -> answers.TrustedRepositories:
        """The account's repositories whose workflows need no key."""
        self._need_token("Authentication required")
        body = self._call("GET", TRUSTED + _query(account=account), sentence="Failed to list the repositories")
        return self._decode(body, answers.TrustedRepositories)

    def remove_trusted_repository(self, trust_id: str, *, account: str | None = None) -> None:
        """Its workflows' tokens end at once."""
        self._need_token("Authentication required")
        path = f"{TRUSTED}/{quote(trust_id, safe='')}" + _query(account=account)
        self._call("DELETE", path, sentence="Failed to remove the repository")

    def list_notify_targets(self, *, account: str | None = None) -> answers.NotifyTargets:
        """Where I am told of tests."""
        self._need_token("Authentication required")
        return self._decode(
            self._call("GET", TARGETS + _query(account=account), sentence="Failed to list targets"),
            answers.NotifyTargets,
        )

    def add_notify_target(self, target: Mapping[str, Any], *, account: str | None = None) -> answers.NotifyTarget:
        """A new target; its signing secret is in this answer alone."""
        self._need_token("Authentication required")
        body = self._call(
            "POST",
            TARGETS + _query(account=account),
            content=msgspec.json.encode(target),
            headers={"Content-Type": "application/json"},
            sentence="Failed to add the target",
        )
        return self._decode(body, answers.NotifyTarget)

    def remove_notify_target(self, target_id: str, *, account: str | None = None) -> None:
        """Nothing more is told there."""
        self._need_token("Authentication required")
        self._call("DELETE", _target_path(target_id, account=account), sentence="Failed to remove the target")

    def resume_notify_target(self, target_id: str, *, account: str | None = None) -> answers.NotifyTarget:
        """A stopped target is told again."""
        self._need_token("Authentication required")
        body = self._call(
            "POST", _target_path(target_id, "resume", account=account), sentence="Failed to resume the target"
        )
        return self._decode(body, answers.NotifyTarget)

    def check_notify_target(self, target_id: str, *, account: str | None = None) -> int:
        """The id of a message that is on its way there."""
        self._need_token("Authentication required")
        body = self._call(
            "POST", _target_path(target_id, "test", account=account), sentence="Failed to test the target"
        )
        return self._decode(body, answers.NotifyCheck).notification_id

    def list_notify_messages(self, target_id: str, *, account: str | None = None) -> answers.NotifyMessages:
        """The target's latest messages, newest first."""
        self._need_token("Authentication required")
        body = self._call(
            "GET", _target_path(target_id, "notifications", account=account), sentence="Failed to list messages"
        )
        return self._decode(body, answers.NotifyMessages)

    def list_hooks(self, *, account: str | None = None) -> answers.Hooks:
        """Webhooks with a secret of their own."""
        self._need_token("Authentication required")
        body = self._call("GET", HOOKS + _query(account=account), sentence="Failed to list webhooks")
        return self._decode(body, answers.Hooks)

    def add_hook(self, hook: Mapping[str, Any], *, account: str | None = None) -> answers.Hook:
        """A new webhook; its secret is in this answer alone."""
        self._need_token("Authentication required")
        body = self._call(
            "POST",
            HOOKS + _query(account=account),
            content=msgspec.json.encode(hook),
            headers={"Content-Type": "application/json"},
            sentence="Failed to add the webhook",
        )
        return self._decode(body, answers.Hook)

    def rotate_hook(self, hook_id: str, *, account: str | None = None) -> answers.Hook:
        """Another secret, in this answer alone."""
        self._need_token("Authentication required")
        path = f"{HOOKS}/{quote(hook_id, safe='')}/rotate" + _query(account=account)
        return self._decode(self._call("POST", path, sentence="Failed to change the secret"), answers.Hook)

    def replace_hook_token(self, hook_id: str, token: str, *, account: str | None = None) -> answers.Hook:
        """Another access token of the repository; address and secret stay."""
        self._need_token("Authentication required")
        body = self._call(
            "POST",
            f"{HOOKS}/{quote(hook_id, safe='')}/token" + _query(account=account),
            content=msgspec.json.encode({"token": token}),
            headers={"Content-Type": "application/json"},
            sentence="Failed to change the access token",
        )
        return self._decode(body, answers.Hook)

    def remove_hook(self, hook_id: str, *, account: str | None = None) -> None:
        """Its address is there no more."""
        self._need_token("Authentication required")
        path = f"{HOOKS}/{quote(hook_id, safe='')}" + _query(account=account)
        self._call("DELETE", path, sentence="Failed to remove the webhook")

    def get_test_usage(self, *, account: str | None = None) -> answers.UsageReport:
        """What this month holds, of the user's own account or of an organisation's."""
        self._need_token("Authentication required")
        body = self._call(
            "GET", "/api/v1/users/me/test-usage" + _query(account=account), sentence="Failed to get usage"
        )
        return self._decode(body, answers.UsageReport)

    def get_package_by_name(self, name: str) -> answers.PackageInfo:
        """The newest version of a package, by name. Works without a token for public packages."""
        try:
            return self._decode(self._call("GET", f"/api/v1/packages/{quote(name, safe='')}"), answers.PackageInfo)
        except RequestRefused as error:
            if error.status != 404 or error.code != "package_not_found":
                raise
            # A name without an author may have been meant as a path.
            nor = "" if name.startswith("@") else ", and no folder of that name is here"
            raise RequestRefused(
                f"Package not found: {self.base_url} has no {name} that you may see{nor}.",
                status=error.status,
                code=error.code,
            ) from error

    def get_package_version(self, name: str, version: str) -> answers.PackageVersion:
        """One version of a package."""
        path = f"/api/v1/packages/{quote(name, safe='')}/{quote(version, safe='')}"
        return self._decode(self._call("GET", path), answers.PackageVersion)

    def get_test_cases(self, package_id: str) -> answers.RegistryCases:
        """The test cases that the registry keeps for a package; none from a registry that keeps none."""
        path = f"/api/v1/packages/{quote(package_id, safe='')}/test-cases?limit=50&sort=confidence"
        try:
            return self._decode(self._call("GET", path), answers.RegistryCases)
        except RequestRefused as error:
            if error.status in (404, 405):
                return answers.RegistryCases()
            raise

    def download(self, version: answers.PackageVersion) -> bytes:
        """The version's archive, compared with its checksum where one is known.

        Follows redirects (registries sign their object store's addresses); no other host gets the token.
        """
        url = self._archive_url(self.base_url + "/", version.tarball_url)
        for _ in range(4):
            own = _origin(url) == _origin(self.base_url)
            response, body = self._send("GET", url, with_token=own, limit=MAX_ARCHIVE_BYTES)
            if not response.has_redirect_location:
                break
            url = self._archive_url(url, response.headers["location"])
        if response.status_code != 200:
            raise self._refusal(response, body, sentence="Failed to download the package")
        if version.content_hash and hashlib.sha256(body).hexdigest() != version.content_hash.lower():
            raise InvalidAnswer(
                "The downloaded package does not match its checksum. Try again; if it stays, report it."
            )
        return body

    def get_models(self) -> answers.ModelList:
        """The models that can be asked for."""
        return self._decode(self._call("GET", "/api/v1/models"), answers.ModelList)

    def get_user(self) -> answers.User:
        """Who the token belongs to."""
        self._need_token("Authentication required")
        return self._decode(self._call("GET", "/api/v1/user"), answers.User)

    def _archive_url(self, base: str, target: str) -> str:
        """Where an archive is said to be. Raises InvalidAnswer for no address, or one without https."""
        try:
            url = urljoin(base, target)
            scheme, host, _ = _origin(url)
        except ValueError:
            scheme, host, url = "", None, ""
        if not host or scheme not in ("https", urlsplit(self.base_url).scheme):
            raise InvalidAnswer(f"{self.base_url} names no safe address for the package's archive.")
        return url

    def _need_token(self, sentence: str) -> None:
        if self._token is None:
            raise AuthenticationRequired(sentence, hints=("   Run `prpm login`, or set PRPM_TOKEN.",))

    def _call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        sentence: str | None = None,
    ) -> bytes:
        """The body of a 2xx answer. `sentence` opens the message of a refusal."""
        response, body = self._send(method, self.base_url + path, content=content, headers=headers)
        return self._checked(response, body, sentence=sentence)

    def _checked(self, response: httpx.Response, body: bytes, *, sentence: str | None) -> bytes:
        if response.is_success:
            return body
        if response.is_redirect:
            raise InvalidAnswer(
                f"{self.base_url} redirects to another address; not followed, as the token would go there. "
                " Set PRPM_REGISTRY_URL to the final address."
            )
        raise self._refusal(response, body, sentence=sentence)

    def _send(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        with_token: bool = True,
        limit: int = MAX_ANSWER_BYTES,
    ) -> tuple[httpx.Response, bytes]:
        sent = dict(headers or {})
        if self._token is not None and with_token:
            sent["Authorization"] = f"Bearer {self._token.reveal()}"
        with (
            _as_unreachable(url),
            self._http.stream(method, url, content=content, headers=sent) as response,
        ):
            return response, _read(response, limit=limit)

    def _decode(self, body: bytes, kind: type[Answer]) -> Answer:
        try:
            return msgspec.json.decode(body, type=kind, strict=False)
        except (ValueError, RecursionError) as error:
            raise InvalidAnswer(
                f"{self.base_url} gave an answer that is not the API's. Check PRPM_REGISTRY_URL."
            ) from error

    def _refusal(self, response: httpx.Response, body: bytes, *, sentence: str | None) -> RequestRefused:
        try:
            said = msgspec.json.decode(body, type=answers.Refusal, strict=False)
        except (ValueError, RecursionError):
            said = answers.Refusal()
        reason = (
            said.error or said.message or f"{response.reason_phrase or 'Unknown error'} (HTTP {response.status_code})"
        )
        return RequestRefused(
            f"{sentence}: {reason}" if sentence else reason,
            status=response.status_code,
            code=said.code,
            details=[line for line in said.details if isinstance(line, str)] if isinstance(said.details, list) else (),
            hints=("   Run `prpm login`, or set PRPM_TOKEN.",) if response.status_code == 401 else (),
            retry_after_seconds=_retry_after(response),
        )


def _target_path(target_id: str, verb: str = "", *, account: str | None) -> str:
    return f"{TARGETS}/{quote(target_id, safe='')}" + (f"/{verb}" if verb else "") + _query(account=account)


def _query(**values: str | int | None) -> str:
    """The query of an address, without what is None; nothing if that is all."""
    text = urlencode({name: value for name, value in values.items() if value is not None})
    return f"?{text}" if text else ""


@contextmanager
def _as_unreachable(url: str) -> Iterator[None]:
    """Whatever breaks on the way to `url` is a CannotReachServer."""
    import httpx

    try:
        yield
    except httpx.TimeoutException as error:
        raise CannotReachServer(f"{_host(url)} did not answer in time.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Neither the error's text nor its request is shown: both can hold the token.
        raise CannotReachServer(
            f"Cannot reach {_host(url)} ({_cause(error)}). Check the address and your connection."
        ) from error


def _read(response: httpx.Response, *, limit: int) -> bytes:
    """The whole body. Raises InvalidAnswer beyond `limit` bytes, counted after decompression."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_bytes():
        size += len(part)
        if size > limit:
            raise InvalidAnswer(
                f"{_host(str(response.url))} sent more than {limit // 1024 // 1024} MB; stopped reading."
            )
        parts.append(part)
    return b"".join(parts)


def _pause_seconds(error: CannotReachServer | RequestRefused, *, attempt: int) -> float:
    """0.5 s, 1 s; more where the server asks for it, but not more than 10 s."""
    asked = error.retry_after_seconds if isinstance(error, RequestRefused) else None
    return min(asked if asked is not None else 0.5 * attempt, 10.0)


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 6 else None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _cause(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return "connection lost" if isinstance(error, httpx.TransportError) else "invalid address"
