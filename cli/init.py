"""`prpm test FOLDER --init`: a suite file to start from, written by a model of the user's own, or a form to fill in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.client import RegistryClient
from cli.errors import CommandError, InvalidUse, NoLocalModels
from cli.local import DEFAULT_MODEL, load_package, need_proxy
from cli.request import RunRequest
from cli.subject import Folder
from cli.terminal import Terminal
from cli.user_config import UserConfig

if TYPE_CHECKING:
    from evals.generating import GeneratedSuite
    from evals.types import Instructions

FILE_NAME = "prpm.test.yaml"


def write_suite_file(request: RunRequest, *, config: UserConfig, client: RegistryClient, terminal: Terminal) -> int:
    """0 once the file is there. Raises InvalidUse if there is one already, CommandError, EngineError."""
    if not isinstance(request.subject, Folder):
        raise InvalidUse("--init writes into a folder: name the package's folder.")
    package = load_package(request.subject, client).package
    if package.suite is not None:
        raise InvalidUse(f"The package has tests already: {package.suite.path}. Edit them, or remove the file.")
    path = request.suite_file or request.subject.path / FILE_NAME
    if path.suffix not in (".yaml", ".yml"):
        raise InvalidUse(f"--init writes YAML: {path} must end in .yaml.")
    model = (request.models or (DEFAULT_MODEL,))[0]
    content, sentence = _content(package.instructions, model, config=config, terminal=terminal)
    _write_new(path, content)
    terminal.say(f"📝 {path}: {sentence}")
    terminal.say(f"   Read it, change what is wrong, then: prpm test {request.text} --watch")
    if terminal.machine:
        terminal.document({"path": str(path)})
    return 0


def _content(instructions: Instructions, model: str, *, config: UserConfig, terminal: Terminal) -> tuple[str, str]:
    """The file's text, and what it is."""
    from evals.generating import as_yaml

    try:
        need_proxy(config, models=(model,), package=instructions.name)
    except NoLocalModels:
        terminal.note(f"No model is reachable at {config.local_url}, so the cases are yours to write.")
        return as_yaml(_form(instructions), comment=_FORM_COMMENT), "a form to fill in."
    except CommandError as error:
        raise CommandError(error.message, code=error.code, details=(*error.details, "Name one with -m.")) from None
    terminal.say(f"⏳ {model} reads the package and writes cases ...")
    suite = asyncio.run(_generate(instructions, model, config))
    comment = f"Written by {model} after reading {instructions.name}. Nobody has checked these cases yet."
    cases = len(suite.value["tests"])
    return as_yaml(suite.value, comment=comment), f"{cases} case{'' if cases == 1 else 's'} by {model}."


async def _generate(instructions: Instructions, model: str, config: UserConfig) -> GeneratedSuite:
    from evals.catalogue import single_proxy_catalogue
    from evals.generating import generate_suite
    from evals.pool import ModelPool

    catalogue = single_proxy_catalogue(config.local_url, key=config.local_key, models=(model,))
    async with ModelPool(catalogue) as pool:
        return await generate_suite(instructions, model=model, pool=pool)


_FORM_COMMENT = (
    "Each case is something that a user says, and what every good answer has.\n"
    "What else can be asserted: docs/suite-format.md of prpm-testing."
)


def _form(instructions: Instructions) -> dict[str, Any]:
    rubric = f"The answer does what {instructions.name} is for."
    return {
        "tests": [
            {
                "description": "Does what the package is for",
                "input": "What a user would say",
                "assert": [
                    {"type": "icontains", "value": "a word that every good answer has"},
                    {"type": "llm-rubric", "value": rubric},
                ],
            },
            {
                "description": "Stays out of the way of other questions",
                "input": "What is the capital of France?",
                "assert": [{"type": "icontains", "value": "Paris"}],
            },
        ]
    }


def _write_new(path: Path, content: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise InvalidUse(f"{path} is there already. Remove it, or name another file with --suite.") from None
    except OSError as error:
        raise InvalidUse(f"{path} cannot be written: {error.strerror}.") from error
