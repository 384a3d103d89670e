"""How to bring a server that speaks chat completions into each situation of the backends' contract."""

from __future__ import annotations

from evals.models import Deployment, Secret
from evals.types import Price
from tests.standins.model_server import ModelServer

MODELS = {
    "answers": "mock-a",
    "http_500": "status-500-a",
    "rate_limited": "status-429-a",
    "refuses_the_key": "status-401-a",
    "times_out": "slow-60000-a",
    "nonsense": "nonsense-a",
    "html": "html-a",
    "huge": "huge-100-a",
    "endless": "endless-a",
    "no_counts": "nousage-a",
    "tools_unasked": "tools-a",
    "unreachable": "mock-a",
}


def deployment_for(situation: str, server: ModelServer) -> Deployment | None:
    return Deployment(
        id="openai_compatible/contract",
        backend="openai_compatible",
        model=MODELS[situation],
        price=Price(input=1.0, output=2.0),
        # Nothing listens on port 1.
        base_url="http://127.0.0.1:1/v1" if situation == "unreachable" else server.base_url,
        key=Secret("sk-contract-0123456789"),
    )
