"""What tests of links share: accounts, and access to a stand-in."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from evals.models import Secret
from server.domain.deliveries import ClaimedDelivery
from server.domain.events import LinkChanged, Repository
from server.services.accounts import create_account
from server.services.forge_access import ForgeAccess
from server.services.sealing import Sealer
from tests.service import SECRET_KEY
from tests.standins.github_app import APP_ID, PRIVATE_KEY, GitHubApp


async def an_account(db: asyncpg.Pool, name: str = "acme", *, kind: str = "user") -> UUID:
    return (await create_account(db, name, kind=kind, tier="plus")).id


def access_to(
    db: asyncpg.Pool, app: GitHubApp, *, issuers: Sequence[tuple[str, str]] = (), **settings: str
) -> ForgeAccess:
    """As the App of the stand-in."""
    named = {"GITHUB_API_URL": app.url, "GITHUB_APP_ID": APP_ID, "GITHUB_APP_PRIVATE_KEY": PRIVATE_KEY, **settings}
    return ForgeAccess(
        db,
        settings={name: Secret(value) for name, value in named.items() if value},
        sealer=Sealer(Secret(SECRET_KEY)),
        issuers=issuers,
    )


def the_repository(app: GitHubApp, *, number: int | None = None, name: str | None = None) -> Repository:
    return Repository(forge="github", id=number or app.id, name=name or app.name, default_branch="main")


def a_delivery(**fields: object) -> ClaimedDelivery:
    values: dict = {
        "id": 1, "source": "github", "hook_id": None, "delivery_id": "one", "event": "installation", "body": b"",
        "attempts": 1, "fence": 1,
    }  # fmt: skip
    return ClaimedDelivery(**(values | fields))


def changed(word: str, app: GitHubApp, *, installation_id: int | None = 4001, name: str | None = None) -> LinkChanged:
    return LinkChanged(
        word=word,
        installation_id=installation_id,
        repositories=(Repository(forge="github", id=app.id, name=name or app.name),),
    )
