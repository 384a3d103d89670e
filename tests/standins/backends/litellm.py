"""How to bring the LiteLLM library into each situation of the backends' contract."""

from __future__ import annotations

from evals.models import Deployment, Secret
from evals.types import Price
from tests.standins.backends.openai_compatible import MODELS
from tests.standins.model_server import ModelServer


def deployment_for(situation: str, server: ModelServer) -> Deployment | None:
    return Deployment(
        id="litellm/contract",
        backend="litellm",
        # A server of one's own, in the library's words.
        model=f"hosted_vllm/{MODELS[situation]}",
        price=Price(input=1.0, output=2.0),
        base_url="http://127.0.0.1:1/v1" if situation == "unreachable" else server.base_url,
        key=Secret("sk-contract-0123456789"),
    )
