"""What a call may cost before it is made: tokens are guessed from the text, as no vendor's tokenizer is at hand."""

from __future__ import annotations

from collections.abc import Sequence

from evals.catalogue import Model
from evals.models import CompletionRequest
from evals.types import Message

# Counted with tiktoken 0.14: English and code have 2.6 to 4.5 characters a token, dense JSON and digits 1.9 to 3, and
# base64 alone 1.4. Other scripts have 1.4 to 2.7 bytes a token in cl100k_base, up to 6 in o200k_base.
_FEWEST_CHARACTERS_A_TOKEN = 2.0
_MOST_CHARACTERS_A_TOKEN = 4.5
_MOST_BYTES_A_TOKEN = 7.0
# Roles and separators around each message, and what a provider adds of its own.
_TOKENS_A_MESSAGE = 8
_TOKENS_A_CALL = 16


def most_input_tokens(messages: Sequence[Message]) -> int:
    """More tokens than these messages have, but for text such as base64, of which it may tell two thirds."""
    tokens = sum(_plain(message) / _FEWEST_CHARACTERS_A_TOKEN + _other_bytes(message) for message in messages)
    return round(tokens) + _TOKENS_A_MESSAGE * len(messages) + _TOKENS_A_CALL


def least_input_tokens(messages: Sequence[Message]) -> int:
    """About as few tokens as these messages may have."""
    return round(
        sum(
            _plain(message) / _MOST_CHARACTERS_A_TOKEN + _other_bytes(message) / _MOST_BYTES_A_TOKEN
            for message in messages
        )
    )


def most_usd(model: Model, request: CompletionRequest) -> float | None:
    """USD that one answer may cost at the dearest of the model's deployments; None if one's price is unknown."""
    tokens = most_input_tokens(request.messages)
    costs: list[float] = []
    for deployment in model.ways(request):
        if deployment.price is None:
            return None
        costs.append(deployment.price.cost_usd(input_tokens=tokens, output_tokens=request.max_tokens))
    return max(costs, default=None)


def _plain(message: Message) -> int:
    """ASCII characters."""
    return len(message.content) - _others(message)


def _others(message: Message) -> int:
    return 0 if message.content.isascii() else sum(character > "\x7f" for character in message.content)


def _other_bytes(message: Message) -> int:
    """Bytes of what is not ASCII."""
    if message.content.isascii():
        return 0
    return len(message.content.encode("utf-8", "surrogatepass")) - _plain(message)
