"""Making the service's App on GitHub, and linking an installation to an account by somebody who administers both."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import asyncpg
import structlog
from msgspec import Struct

from server.domain.accounts import Caller
from server.domain.errors import Conflict, InvalidRequest, NotAllowed, ServiceError, Unavailable
from server.domain.links import Installation, NotLinked, StoredApp
from server.domain.rights import rights_of_role
from server.forges import CannotRead
from server.services import github_web as github
from server.services.apps import CLIENT_SECRET, KEY, WEBHOOK_SECRET, AppBook, owner_of
from server.services.on_behalf import acting_for
from server.services.sealing import Sealer
from server.services.tickets import LINK, LINK_SECONDS, MANIFEST, OPERATOR, STATE_SECONDS, issue_ticket, use_ticket
from server.store import organizations, setup

log = structlog.get_logger()

FORGE = "github"


class Setup(Struct, frozen=True, kw_only=True):
    """What the steps need. `reach` gives what asks forges: services.forge_access.ForgeAccess."""

    db: asyncpg.Pool
    apps: AppBook
    reach: Any  # () -> ForgeAccess, which brings the HTTP client along
    sealer: Sealer | None
    public_url: str


class Registration(Struct, frozen=True, kw_only=True):
    """What the operator's browser posts to GitHub, and where."""

    url: str
    manifest: dict[str, Any]


async def begin_app(
    site: Setup, *, unverified_ticket: str, browser: str, organization: str, is_public: bool
) -> Registration:
    """The operator shows the one-time token; `browser` is a secret that this browser holds from now on.

    Raises NotAllowed, InvalidRequest, or Conflict where there is an App already or no key to keep one.
    """
    if organization and not github.ORGANIZATION.fullmatch(organization):
        raise InvalidRequest("An organisation's name has letters, digits and hyphens.", code="invalid_organization")
    if site.sealer is None:
        raise Conflict("Set PRPM_SECRET_KEY first: the App's keys are kept encrypted.", code="no_secret_key")
    facts = await use_ticket(site.db, OPERATOR, unverified_ticket)
    may_replace = facts.get("may_replace") is True
    if await site.apps.find(FORGE) is not None and not may_replace:
        raise Conflict(
            "This service has an App on GitHub already. `prpm-testing setup-token --replace` makes another one; "
            "settings (PRPM_GITHUB_APP_ID) win over what is made here.",
            code="app_exists",
        )
    state = await issue_ticket(
        site.db, MANIFEST, seconds=STATE_SECONDS, holder=browser, facts={"may_replace": may_replace}
    )
    web = github.web_url(site.reach().api_url(FORGE))
    return Registration(
        url=github.registration_url(web, organization=organization, state=state),
        manifest=github.manifest(site.public_url, is_public=is_public),
    )


async def finish_app(site: Setup, *, unverified_state: str, code: str, browser: str) -> StoredApp:
    """The App that GitHub made, its keys sealed. Raises NotAllowed, Unavailable, InvalidRequest or Conflict."""
    facts = await use_ticket(site.db, MANIFEST, unverified_state, holder=browser)
    if site.sealer is None:
        raise Conflict("Set PRPM_SECRET_KEY first: the App's keys are kept encrypted.", code="no_secret_key")
    access = site.reach()
    try:
        made = await access.ask(github.convert(access.api_url(FORGE), code))
    except CannotRead as error:
        raise _as_refusal(error) from None
    sealed = site.sealer.seal_secrets(
        owner_of(FORGE),
        {
            KEY: made.private_key.reveal(),
            CLIENT_SECRET: made.client_secret.reveal(),
            WEBHOOK_SECRET: made.webhook_secret.reveal(),
        },
    )
    app = StoredApp(
        forge=FORGE,
        app_id=made.app_id,
        slug=made.slug,
        client_id=made.client_id,
        page_url=made.page_url,
        sealed=sealed,
    )
    if not await setup.save_app(site.db, app, may_replace=facts.get("may_replace") is True):
        raise Conflict("Another App was made meanwhile; delete this one at GitHub.", code="app_exists")
    site.apps.forget(FORGE)
    log.info("app made", forge=FORGE, app=made.app_id)
    return app


async def begin_link(site: Setup, caller: Caller, *, session: str, account: str, installation_id: int) -> str:
    """Where the person's browser goes next, to say at GitHub who they are.

    Raises NotFound or NotAllowed for an account that the caller does not administer, Conflict without an App.
    """
    acting = await acting_for(site.db, caller, account, "administer")
    app = await _app_with_people(site)
    state = await issue_ticket(
        site.db,
        LINK,
        seconds=LINK_SECONDS,
        holder=session,
        facts={"installation_id": installation_id, "account": acting.username},
    )
    web = github.web_url(site.reach().api_url(FORGE))
    return github.authorize_url(web, client_id=app.client_id, redirect_uri=callback_url(site), state=state)


async def finish_link(site: Setup, caller: Caller, *, session: str, unverified_state: str, code: str) -> Installation:
    """The installation is the account's: the person administers both, which is looked at now.

    Raises NotAllowed, NotFound, Conflict, InvalidRequest or Unavailable, with nothing linked.
    """
    from server.services.installations import link_installation

    facts = await use_ticket(site.db, LINK, unverified_state, holder=session)
    number = int(facts["installation_id"])
    acting = await acting_for(site.db, caller, facts["account"], "administer")
    app, access = await _app_with_people(site), site.reach()
    api_url = access.api_url(FORGE)
    try:
        token = await access.ask(
            github.user_token(
                github.web_url(api_url),
                client_id=app.client_id,
                client_secret=app.client_secret,
                code=code,
                redirect_uri=callback_url(site),
            )
        )
        who = await access.ask(github.person(api_url, token))
        if not await access.ask(github.administers(api_url, token, who, number)):
            raise NotAllowed(
                "At GitHub you do not own this installation, nor the organisation that has it. Ask one of its owners "
                "to link it.",
                code="not_your_installation",
            )
        linked = await link_installation(
            site.db, access, forge=FORGE, installation_id=number, account_id=acting.id, proof=f"github:{who.login}"
        )
    except CannotRead as error:
        raise _as_refusal(error) from None
    except NotLinked as error:
        raise Conflict(str(error), code="installation_is_linked") from None
    log.info("installation linked by a person", installation=number, account=str(acting.id), by=str(caller.asker_id))
    return linked


def callback_url(site: Setup) -> str:
    """Where GitHub sends people back to."""
    return f"{site.public_url}/setup/github/callback"


def web_origin(site: Setup) -> str:
    """`scheme://host` where people meet GitHub."""
    parts = urlsplit(github.web_url(site.reach().api_url(FORGE)))
    return f"{parts.scheme}://{parts.netloc}"


async def _app_with_people(site: Setup) -> Any:
    app = await site.apps.find(FORGE)
    if app is None:
        raise Conflict("This service has no App on GitHub yet; its operator makes one at /setup/github.", code="no_app")
    if not app.client_id or not app.client_secret.reveal():
        raise Conflict(
            "This service cannot ask GitHub who you are: its operator sets PRPM_GITHUB_CLIENT_ID and "
            "PRPM_GITHUB_CLIENT_SECRET, or links the installation with `prpm-testing link add`.",
            code="no_client",
        )
    return app


def _as_refusal(error: CannotRead) -> ServiceError:
    return Unavailable(str(error)) if error.retryable else InvalidRequest(str(error), code="github_refused")


async def accounts_to_link(db: asyncpg.Pool, caller: Caller) -> list[str]:
    """Names of the accounts that the caller administers, their own first."""
    memberships = await organizations.list_organizations(db, caller.asker_id)
    return [caller.username, *(one.username for one in memberships if "administer" in rights_of_role(one.role))]


def parse_installation_id(text: str) -> int:
    """Raises InvalidRequest."""
    if text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0:
        return int(text)
    raise InvalidRequest("GitHub's address names no installation. Open the App's page and install it again.")
