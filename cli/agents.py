"""Whether `prpm test --local` runs the package as an agent: in a sandbox on this machine, through the user's proxy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cli.errors import InvalidUse
from cli.proxy import speaks_messages
from cli.request import RunRequest
from cli.terminal import Terminal
from cli.user_config import UserConfig

if TYPE_CHECKING:
    from evals.agents.plugins import PinnedPlugin
    from evals.agents.tasks import AgentTask
    from evals.packages import Package
    from evals.types import Suite

# An agent asks its model several times before it answers.
LONGER = 5


def choose_agent(
    request: RunRequest,
    *,
    package: Package,
    files: Mapping[str, bytes],
    suite: Suite,
    models: tuple[str, ...],
    config: UserConfig,
    terminal: Terminal,
) -> AgentTask | None:
    """The package as an agent, None for models by themselves; notes are said.

    Raises FrameworkUnavailable, InvalidPlugins, UnknownPlugin, InvalidUse.
    """
    from evals.agents.choosing import Wish, choose
    from evals.catalogue import single_proxy_catalogue

    catalogue = single_proxy_catalogue(config.local_url, key=config.local_key, models=models)
    wish = Wish(
        asked=request.framework,
        suite=suite,
        models=[catalogue.resolve(name) for name in models],
        plugins=read_plugins(request),
        # Whoever needs no sandbox need not wait for the look at it.
        why_not=why_not(config) if package.manifest.format == "claude" else None,
    )
    chosen = choose(package, files, wish)
    for sentence in chosen.notes:
        terminal.note(sentence)
    return chosen.agent


def why_not(config: UserConfig) -> str | None:
    """Why no agent can be run: this machine cannot, or the user's server does not know agents; None if it can."""
    from evals.agents.sandbox import why_no_agents

    if (lacking := why_no_agents()) is not None:
        return lacking
    if speaks_messages(config.local_url, key=config.local_key):
        return None
    return f"{config.local_url} does not speak Anthropic's Messages API, which agents need"


def read_plugins(request: RunRequest) -> tuple[PinnedPlugin, ...]:
    """The plugins that were asked for, out of the file that PRPM_PLUGINS names. Raises InvalidUse, InvalidPlugins."""
    if not request.plugins:
        return ()
    from evals.agents.plugins import load_plugins

    given = os.environ.get("PRPM_PLUGINS", "").strip()
    if not given:
        raise InvalidUse("Name your plugins file in PRPM_PLUGINS to use -p with --local.")
    try:
        text = Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InvalidUse(f"PRPM_PLUGINS: {given} cannot be read.") from None
    return load_plugins(text, environ=os.environ).choose(request.plugins)
