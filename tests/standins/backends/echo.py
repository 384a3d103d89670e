"""How to bring the echo into each situation of the backends' contract; None where it cannot get there."""

from __future__ import annotations

from evals.models import Deployment
from evals.types import Price
from tests.standins.model_server import ModelServer

OPTIONS = {
    "answers": {},
    "http_500": {"fail_first": 1000},
    "times_out": {"latency_ms": 60_000},
}


def deployment_for(situation: str, server: ModelServer) -> Deployment | None:
    if situation not in OPTIONS:
        return None
    return Deployment(
        id="echo/contract",
        backend="echo",
        model="contract",
        price=Price(input=1.0, output=2.0),
        options=OPTIONS[situation],
    )
