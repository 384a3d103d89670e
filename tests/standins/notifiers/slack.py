"""How the contract gets a Slack that the notifier can be tried on."""

from __future__ import annotations

import json
from dataclasses import replace

from notifiers import Receipt
from notifiers.slack import SlackTarget
from tests.standins.slack import PATH, Slack

SECRETS = (PATH,)


def stand_in() -> Slack:
    return Slack()


def target_for(server: Slack, mode: str) -> SlackTarget:
    return SlackTarget(url=server.url + PATH, when=mode)  # type: ignore[arg-type]  # the contract's words are the modes


def elsewhere(target: SlackTarget, url: str) -> SlackTarget:
    return replace(target, url=url + PATH)


def again(target: SlackTarget, receipt: Receipt) -> None:
    """Slack cannot edit what a webhook posted."""


def visible(server: Slack) -> list[str]:
    return [json.dumps(message, ensure_ascii=False) for message in server.messages]
