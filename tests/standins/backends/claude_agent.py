"""Agents are no models by themselves: each situation has its own test in tests/security/test_agent_backend.py."""

from __future__ import annotations

from evals.models import Deployment
from tests.standins.model_server import ModelServer


def deployment_for(situation: str, server: ModelServer) -> Deployment | None:
    """None: the contract's questions have no agent, and this backend answers no others."""
    return None
