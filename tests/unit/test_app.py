"""The API process is light: what other processes need is not loaded in it."""

from __future__ import annotations

import subprocess
import sys

MAKE = """
import sys
from server.app import make_app
from server.settings import read_settings

make_app(read_settings({"PRPM_DATABASE_URL": "postgresql://x/y", "PRPM_REDIS_URL": "redis://x"}))
print(sorted({"aiohttp", "attr", "litellm", "pydantic", "pydantic_core"} & set(sys.modules)))
"""


def test_app__loads_no_library_that_only_others_need():
    made = subprocess.run([sys.executable, "-c", MAKE], capture_output=True, text=True, check=True)

    assert made.stdout.strip() == "[]"
