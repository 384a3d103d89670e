"""How the contract gets a Discord that the notifier can be tried on."""

from __future__ import annotations

import json
from dataclasses import replace

from notifiers import Receipt
from notifiers.discord import DiscordTarget
from tests.standins.discord import PATH, Discord

SECRETS = (PATH,)


def stand_in() -> Discord:
    return Discord()


def target_for(server: Discord, mode: str) -> DiscordTarget:
    return DiscordTarget(url=server.url + PATH, when=mode)  # type: ignore[arg-type]  # the contract's words are the modes


def elsewhere(target: DiscordTarget, url: str) -> DiscordTarget:
    return replace(target, url=url + PATH)


def again(target: DiscordTarget, receipt: Receipt) -> DiscordTarget:
    return replace(target, message_id=receipt.message_id)


def visible(server: Discord) -> list[str]:
    return [json.dumps(message, ensure_ascii=False) for message in server.messages.values()]
