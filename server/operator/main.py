"""`prpm-testing`: one command a file of this folder. To add one, put a file here that defines `command`.

Its name is the file's with `-` for `_`; its line in the help is the first line of the file's docstring.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from server.operator.errors import OUTCOME_NOT_POSSIBLE, OperatorError

FOLDER = Path(__file__).parent


class CommandFiles(click.Group):
    """A group whose commands are files: read for the help, imported when used, as some of them are heavy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, _ in command_files()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module_name = cmd_name.replace("-", "_")
        if module_name.startswith("_") or not (FOLDER / f"{module_name}.py").is_file():
            return None
        found = getattr(importlib.import_module(f"server.operator.{module_name}"), "command", None)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(command_files()))


def command_files() -> Iterator[tuple[str, str]]:
    """Name and help line of each command, sorted, without importing any."""
    for path in sorted(FOLDER.glob("[!_]*.py")):
        tree = ast.parse(path.read_bytes())
        if any(_defines_command(node) for node in tree.body):
            yield path.stem.replace("_", "-"), (ast.get_docstring(tree) or "").partition("\n")[0]


def _defines_command(node: ast.stmt) -> bool:
    match node:
        case ast.FunctionDef(name="command"):
            return True
        case ast.Assign(targets=[ast.Name(id="command")]) | ast.AnnAssign(target=ast.Name(id="command")):
            return True
    return False


@click.group(cls=CommandFiles, context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """Runs the testing service for AI prompt packages. `prpm-testing up` starts everything."""


def main() -> None:
    """Run the command of `sys.argv`. An expected failure is a sentence on stderr and exit 2, no traceback."""
    try:
        group(prog_name="prpm-testing")
    except Exception as error:
        if not is_server_installed():
            click.echo(
                "❌ The service is not installed, only the command is. Run `pip install 'prpm-testing[server]'`.",
                err=True,
            )
            sys.exit(OUTCOME_NOT_POSSIBLE)
        if not isinstance(error, expected_failures()):
            raise
        click.echo(f"❌ {error}", err=True)
        sys.exit(getattr(error, "exit_code", OUTCOME_NOT_POSSIBLE))


def is_server_installed() -> bool:
    """Whether the extra `server` is there: the wheel alone brings the command line."""
    return all(importlib.util.find_spec(name) for name in ("asyncpg", "litestar", "arq", "structlog"))


def expected_failures() -> tuple[type[Exception], ...]:
    """The classes whose message is a sentence for the operator. Imported only once something went wrong."""
    import asyncpg

    from evals.errors import EngineError
    from server.domain.errors import ServiceError
    from server.embedded import CannotStart
    from server.settings import InvalidSettings
    from server.store.migrations import CannotMigrate

    return (
        OperatorError, CannotStart, InvalidSettings, CannotMigrate, ServiceError, EngineError,
        # An external database that is away, or refuses us: the message names address and reason.
        ConnectionError, asyncpg.PostgresConnectionError, asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
    )  # fmt: skip


if __name__ == "__main__":
    main()
