"""The roots of `prpm` and `prpm-test`: find the command, run it, turn what it raises into words."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence

import click

from cli.errors import CommandError, Interrupted, InvalidUse
from cli.terminal import Terminal

EPILOG = "Other commands are handed to the next `prpm` in PATH, the package manager: https://prpm.dev"


class UnknownCommand(InvalidUse):
    """`name` is no command of ours."""

    code = "unknown_command"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Unknown command: {name[:80]}",
            hints=("   This command tests packages. The package manager knows more: https://prpm.dev",),
        )


class Commands(click.Group):
    """Finds commands in cli/commands, imported when they are looked at."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return command_names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in command_names():
            return None
        found: click.Command = importlib.import_module(f"cli.commands.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in command_names():
            raise UnknownCommand(args[0])
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="prpm-testing", prog_name="prpm-testing")
def commands() -> None:
    """Test AI prompt packages against the models that matter."""


def main() -> None:
    """`prpm`."""
    sys.exit(run(sys.argv[1:], name="prpm"))


def test_main() -> None:
    """`prpm-test`, a name that clashes with nothing; `prpm-test @a/b` is short for `prpm-test test @a/b`."""
    sys.exit(run(with_test_as_default(sys.argv[1:]), name="prpm-test"))


def run(arguments: Sequence[str], *, name: str) -> int:
    """The exit code of a command line; `name` is the program's. Raises nothing that is expected to happen."""
    terminal = Terminal(machine=asks_for_json(arguments))
    try:
        result = commands.main(args=list(arguments), prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - what is not expected is raised again
        expected = as_command_error(error)
        if isinstance(expected, UnknownCommand) and name == "prpm":
            from cli.handover import hand_over

            hand_over(arguments)
        terminal.explain(expected)
        return expected.exit_code
    return result if isinstance(result, int) else 0


def as_command_error(error: BaseException) -> CommandError:
    """An expected failure as a CommandError. Anything else is a defect and is raised again."""
    from evals.errors import EngineError

    match error:
        case CommandError():
            return error
        case EngineError():
            return CommandError(error.message, code=_snake_case(type(error).__name__), details=error.details)
        case click.Abort() | KeyboardInterrupt():
            return Interrupted("Stopped.")
        case click.ClickException():
            return _use_error(error)
    raise error


def command_names() -> list[str]:
    """The commands' names, which are their files'."""
    import cli.commands

    return sorted(module.name for module in pkgutil.iter_modules(cli.commands.__path__) if module.name[0] != "_")


def with_test_as_default(arguments: Sequence[str]) -> list[str]:
    """The same arguments, with `test` before them unless they begin with a command or ask for help."""
    known = {*command_names(), "-h", "--help", "--version"}
    if not arguments or arguments[0] in known:
        return list(arguments)
    return ["test", *arguments]


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether errors are to be JSON, known before the arguments are: they may be what is wrong."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return "--json" in arguments[:end]


def _snake_case(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")


def _use_error(error: click.ClickException) -> CommandError:
    context = getattr(error, "ctx", None)
    hints = (f"   Try `{context.command_path} --help`.",) if context is not None else ()
    return InvalidUse(error.format_message(), hints=hints)


if __name__ == "__main__":
    main()
