"""Hostile packages and models in the agents' sandbox, which has to be here: nothing is left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from evals.agents.sandbox import why_no_agents

ROOT = Path(__file__).parents[3]


def missing() -> list[str]:
    why = why_no_agents()
    return [f"No agent can be run here: {why}."] if why else []


def check() -> bool:
    return subprocess.run([sys.executable, "-m", "pytest", "tests/security"], cwd=ROOT, check=False).returncode == 0
