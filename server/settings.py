"""Settings, read once from the environment into a frozen Struct; every one is optional in the one-command mode."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from evals.models import Secret

SHORTEST_KEY_CHARS = 16
ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?")


class InvalidSettings(Exception):
    """Names every variable that is missing or unusable at once."""


class Settings(Struct, frozen=True, kw_only=True):
    """What `PRPM_*` says; secrets show themselves as ***."""

    database_url: Secret | None
    database_direct_url: Secret | None
    redis_url: Secret | None
    data_dir: Path | None
    public_url: str | None
    host: str
    port: int
    jwt_secret: Secret | None
    secret_key: Secret | None  # seals stored secrets; several, separated by commas, while one is replaced
    jwks_url: str | None
    catalogue: Path | None
    plugins: Path | None  # MCP servers that agents may be given; evals/agents/plugins.py
    litellm_proxy_url: str | None
    litellm_proxy_key: Secret | None
    demo_model_url: str | None
    upstream_registry_url: str | None
    notify_allowed_origins: frozenset[str]  # `scheme://host:port` that need neither https nor a public name
    notify_from: str  # which processes tell what has ended: worker, or api where workers reach no outside
    oidc_issuers: str | None  # whose tokens of workflows are exchanged
    trusted_proxies: str | None  # whose word on a client's address counts
    guesses_per_minute: int  # bad tokens that one address may send
    submits_per_minute: int  # of one token
    exchanges_per_minute: int  # of one repository
    requests_per_minute: int  # submits, and exchanges, of one address
    deliveries_per_minute: int  # of one webhook, installation or project that are handled; the rest later
    bad_deliveries_per_minute: int  # of one address
    log_format: str
    log_level: str
    worker_jobs: int  # jobs that one worker process runs side by side
    job_concurrency: int  # model calls that one job has in flight
    lease_seconds: int  # how soon another worker takes over what a killed one held
    streams_per_token: int  # event streams that one token may have open in one API process
    keep_trials_days: int  # single trials of jobs that ended
    keep_outcomes_days: int  # answers and assertions of jobs that ended
    keep_uploads_days: int  # uploaded working folders after their last upload or job
    keep_keys_days: int  # idempotency keys
    keep_history_days: int  # what runs found, for runs that are compared with them
    signing_key: Secret | None  # outcomes are signed with a key made of it; without one they are not signed
    keep_notifications_days: int  # what was told, or could not be
    cache_days: int  # how old an answer may be to be answered again; 0: none is
    keep_deliveries_days: int  # what forges delivered
    plugin_secrets: Mapping[str, Secret]  # every further PRPM_ variable by its name after that: plug-ins know theirs

    def require_database(self) -> str:
        """The database's address; raises InvalidSettings when it is unset."""
        if self.database_url is None:
            raise InvalidSettings("Set PRPM_DATABASE_URL, or start everything with `prpm-testing up`.")
        return self.database_url.reveal()

    def require_redis(self) -> str:
        """Redis' address; raises InvalidSettings when it is unset."""
        if self.redis_url is None:
            raise InvalidSettings("Set PRPM_REDIS_URL, or start everything with `prpm-testing up`.")
        return self.redis_url.reveal()


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from `environ` (the process's own by default). Empty means unset. Raises InvalidSettings."""
    environ = os.environ if environ is None else environ
    trouble: list[str] = []
    known: set[str] = set()

    def text(name: str) -> str | None:
        known.add(name)
        return environ.get(f"PRPM_{name}", "").strip() or None

    def secret(name: str) -> Secret | None:
        value = text(name)
        return Secret(value) if value else None

    def number(name: str, default: int, *, least: int, most: int) -> int:
        value = text(name)
        if value is None:
            return default
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            trouble.append(f"PRPM_{name} must be a whole number from {least} to {most}, not {value!r}.")
            return default
        return int(value)

    def path(name: str) -> Path | None:
        value = text(name)
        return Path(value) if value else None

    def keys(name: str) -> Secret | None:
        value = text(name)
        if value and any(len(part.strip()) < SHORTEST_KEY_CHARS for part in value.split(",")):
            trouble.append(f"PRPM_{name} must hold keys of {SHORTEST_KEY_CHARS} characters or more.")
        return secret(name)

    def word(name: str, *words: str) -> str:
        """One of `words`, the first by default."""
        value = text(name) or words[0]
        if value not in words:
            trouble.append(f"PRPM_{name} must be {' or '.join(words)}, not {value!r}.")
        return value

    def origins(name: str) -> frozenset[str]:
        found = frozenset(part.strip().lower() for part in (text(name) or "").split(",") if part.strip())
        trouble.extend(
            f"PRPM_{name} must hold `scheme://host:port` without a path, not {origin!r}."
            for origin in sorted(found)
            if not ORIGIN.fullmatch(origin)
        )
        return found

    settings = Settings(
        database_url=secret("DATABASE_URL"),
        database_direct_url=secret("DATABASE_DIRECT_URL"),
        redis_url=secret("REDIS_URL"),
        data_dir=path("DATA_DIR"),
        public_url=(text("PUBLIC_URL") or "").rstrip("/") or None,
        host=text("HOST") or "127.0.0.1",
        port=number("PORT", 8100, least=0, most=65535),
        jwt_secret=secret("JWT_SECRET"),
        secret_key=keys("SECRET_KEY"),
        jwks_url=text("JWKS_URL"),
        catalogue=path("CATALOGUE"),
        plugins=path("PLUGINS"),
        litellm_proxy_url=text("LITELLM_PROXY_URL"),
        litellm_proxy_key=secret("LITELLM_PROXY_KEY"),
        demo_model_url=text("DEMO_MODEL_URL"),
        upstream_registry_url=text("UPSTREAM_REGISTRY_URL"),
        oidc_issuers=text("OIDC_ISSUERS"),
        trusted_proxies=text("TRUSTED_PROXIES"),
        guesses_per_minute=number("GUESSES_PER_MINUTE", 60, least=1, most=1_000_000),
        notify_allowed_origins=origins("NOTIFY_ALLOWED_ORIGINS"),
        notify_from=word("NOTIFY_FROM", "worker", "api"),
        submits_per_minute=number("SUBMITS_PER_MINUTE", 600, least=1, most=1_000_000),
        exchanges_per_minute=number("EXCHANGES_PER_MINUTE", 120, least=1, most=1_000_000),
        requests_per_minute=number("REQUESTS_PER_MINUTE", 12_000, least=1, most=1_000_000),
        deliveries_per_minute=number("DELIVERIES_PER_MINUTE", 600, least=1, most=1_000_000),
        bad_deliveries_per_minute=number("BAD_DELIVERIES_PER_MINUTE", 600, least=1, most=1_000_000),
        log_format=text("LOG_FORMAT") or "json",
        log_level=(text("LOG_LEVEL") or "info").upper(),
        worker_jobs=number("WORKER_JOBS", 20, least=1, most=1000),
        job_concurrency=number("JOB_CONCURRENCY", 20, least=1, most=1000),
        lease_seconds=number("LEASE_SECONDS", 15, least=3, most=300),
        streams_per_token=number("STREAMS_PER_TOKEN", 2000, least=1, most=100_000),
        keep_trials_days=number("KEEP_TRIALS_DAYS", 30, least=1, most=36500),
        keep_outcomes_days=number("KEEP_OUTCOMES_DAYS", 365, least=1, most=36500),
        keep_uploads_days=number("KEEP_UPLOADS_DAYS", 90, least=1, most=36500),
        keep_keys_days=number("KEEP_KEYS_DAYS", 7, least=1, most=36500),
        keep_history_days=number("KEEP_HISTORY_DAYS", 365, least=1, most=36500),
        signing_key=keys("SIGNING_KEY") or secret("SECRET_KEY"),
        keep_notifications_days=number("KEEP_NOTIFICATIONS_DAYS", 30, least=1, most=36500),
        cache_days=number("CACHE_DAYS", 14, least=0, most=36500),
        keep_deliveries_days=number("KEEP_DELIVERIES_DAYS", 30, least=4, most=36500),
        plugin_secrets={
            name.removeprefix("PRPM_"): Secret(value.strip())
            for name, value in environ.items()
            if name.startswith("PRPM_") and value.strip() and name.removeprefix("PRPM_") not in known
        },
    )
    if trouble:
        raise InvalidSettings(" ".join(trouble))
    return settings
