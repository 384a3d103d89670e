"""Test an example package on a real model, through the whole service, and stop again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from server.embedded.folders import make_folder
from server.operator.demo_model import HOW_TO_GET_A_MODEL, MODEL_NAME
from server.operator.errors import OperatorError
from server.operator.model_source import ModelSource, choose_model
from server.operator.stack import ROOT, Ready, Stack, StackOptions
from server.operator.up import stack_options, tell, watch, with_stack

PACKAGE = "@demo/hello"
DATA_DIR = Path(".data", "demo")
# The demo is for a look: it must not write to a database that somebody works with.
NOT_FOR_THE_DEMO = ("PRPM_DATABASE_URL", "PRPM_DATABASE_DIRECT_URL", "PRPM_REDIS_URL", "PRPM_PUBLIC_URL")
POLL_SECONDS = 0.1
COULD_NOT_RUN = 1


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=DATA_DIR, show_default=True)
def command(*, keep: bool, data_dir: Path) -> None:
    """Test @demo/hello on the model at hand, print the results, and stop."""
    options = demo_options(data_dir)
    if choose_model(options.environ, free_port=lambda: 0).kind == "none":
        raise OperatorError(f"The demo needs a model. {HOW_TO_GET_A_MODEL}")
    tell("Starting PostgreSQL, Valkey, the API and a worker ...")
    with_stack(options, lambda stack, ready: show(stack, ready, options=options, keep=keep))


def demo_options(data_dir: Path) -> StackOptions:
    """The stack's options with a data folder and servers of its own."""
    options = stack_options(port=0, data_dir=data_dir, public_url=None)
    own = {name: value for name, value in options.environ.items() if name not in NOT_FOR_THE_DEMO}
    return msgspec.structs.replace(options, environ=own)


def show(stack: Stack, ready: Ready, *, options: StackOptions, keep: bool) -> None:
    """The run on the terminal, then where to look. Raises OperatorError when it could not be done."""
    print(f"{ready.model.sentence}\n\n$ prpm test {PACKAGE}\n", flush=True)
    result = run_test(stack, ready, options=options)
    print(what_it_means(ready.model, result), flush=True)
    print(where_to_look(ready, data_dir=options.data_dir, keep=keep), flush=True)
    if keep:
        watch(stack)


def run_test(stack: Stack, ready: Ready, *, options: StackOptions) -> dict[str, Any]:
    """The JSON of `prpm test`, whose transcript went to our stdout as it came. Raises OperatorError."""
    # A home of its own: the demo neither reads nor changes the user's login.
    home = make_folder(options.data_dir / "home")
    document = options.data_dir / "result.json"
    command_line = [
        sys.executable, "-P", "-c", "import sys; from cli.main import main; sys.argv[0] = 'prpm'; main()",
        "test", PACKAGE, "--json",
    ]  # fmt: skip
    with document.open("wb") as result:
        process = subprocess.Popen(  # noqa: S603 (the arguments are ours)
            command_line, env=client_environment(ready, options=options, home=home), cwd=home, stdout=result,
            stderr=sys.stdout.fileno(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while process.poll() is None:
                stack.check()
                time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return read_result(document)


def client_environment(ready: Ready, *, options: StackOptions, home: Path) -> dict[str, str]:
    """What `prpm` is told: whom to ask, and none of the vendors' keys."""
    theirs = {n: value for n, value in options.environ.items() if n not in ready.model.key_variables}
    return theirs | {
        "HOME": str(home),
        "PRPM_REGISTRY_URL": ready.url,
        "PRPM_TOKEN": ready.token or "",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), theirs.get("PYTHONPATH", "")])),
    }


def read_result(document: Path) -> dict[str, Any]:
    """The finished run. Raises OperatorError when there are no verdicts on everything."""
    try:
        result: dict[str, Any] = json.loads(document.read_bytes())
    except ValueError as error:
        raise OperatorError("The run could not be done; see above.", exit_code=COULD_NOT_RUN) from error
    if result.get("conclusion") not in ("passed", "failed"):
        why = result.get("error") or "some cases have no verdict; see above."
        raise OperatorError(f"The run could not be done: {why}", exit_code=COULD_NOT_RUN)
    return result


def what_it_means(model: ModelSource, result: dict[str, Any]) -> str:
    """One line on the verdicts."""
    if result["conclusion"] == "passed":
        return "\nThese are the model's true answers, judged by the package's suite."
    return (
        f"\nThe failures are true: {MODEL_NAME} has 135 million parameters, and that is what it answered."
        if model.kind == "demo"
        else "\nThe failures are true: that is what the model answered."
    )


def where_to_look(ready: Ready, *, data_dir: Path, keep: bool) -> str:
    """Links that open now, or how to have them open."""
    prpm, operator = command_path("prpm"), command_path("prpm-testing")
    if not keep:
        again = f"{operator} up --data-dir {from_here(data_dir)}"
        return "\n".join(
            ["", "Next:", f"  {again}", "      the same service to keep, with this result in it",
             "  make demo KEEP=1", "      this demo, left running",
             f"  {prpm} test --help", "      to test a package of your own", "", "Stopping."]
        )  # fmt: skip
    return "\n".join(
        ["", f"Pages: {ready.url}/packages/%40demo%2Fhello/tests and {ready.url}/docs", "",
         "Try, in another terminal:", "",
         f"  export PRPM_REGISTRY_URL={ready.url} PRPM_TOKEN={ready.token}",
         f"  {prpm} test @demo/python-type-hints", f"  {prpm} test {PACKAGE} --verbose", f"  {prpm} usage", "",
         "Ctrl-C stops everything."]
    )  # fmt: skip


def command_path(name: str) -> str:
    """How to call one of our commands from here: by its path, or as a module where it has none."""
    script = Path(sys.executable).with_name(name)
    if not script.exists():
        module = {"prpm": "cli.main", "prpm-testing": "server.operator.main"}[name]
        return f"{from_here(Path(sys.executable))} -m {module}"
    return from_here(script)


def from_here(path: Path) -> str:
    """The path as short as it can be typed in this folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
