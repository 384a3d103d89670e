"""The cases of a local run: the suite that was named, the package's, the registry's, or what a model writes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cli.client import RegistryClient
from cli.errors import CommandError
from cli.request import RunRequest
from cli.subject import Registered
from cli.suite_file import find_suite_file
from cli.terminal import Terminal
from cli.user_config import UserConfig

if TYPE_CHECKING:
    from evals.packages import Package
    from evals.types import Suite


def find_cases(
    request: RunRequest,
    package: Package,
    *,
    models: tuple[str, ...],
    config: UserConfig,
    client: RegistryClient,
    terminal: Terminal,
) -> Suite:
    """The suite that is run, by the first place that has one. Raises InvalidSuite, or CommandError if no place has."""
    from evals.suites import read_suite, select_cases

    found = find_suite_file(request.suite_file) if request.suite_file is not None else package.suite
    for sentence in package.notes:
        terminal.note(sentence)
    if found is None:
        suite = _from_registry(request, client, terminal) or _generated(
            request, package, model=models[0], config=config, terminal=terminal
        )
        return select_cases(suite, request.cases)
    read = read_suite(found, allow_code=request.allow_code)
    for sentence in read.notes:
        terminal.note(sentence)
    return select_cases(read.suite, request.cases)


def _generated(request: RunRequest, package: Package, *, model: str, config: UserConfig, terminal: Terminal) -> Suite:
    if not request.generate:
        raise CommandError(
            "The package has no tests. Add a file prpm.test.yaml (--init writes one), name one with --suite, or let a "
            "model write cases for this run with --generate.",
            code="no_suite",
        )
    return asyncio.run(_by_a_model(package, model, config, terminal))


def _from_registry(request: RunRequest, client: RegistryClient, terminal: Terminal) -> Suite | None:
    if not isinstance(request.subject, Registered):
        return None
    from evals.registry_cases import suite_of_cases
    from evals.suites import parse_suite_value

    known = client.get_package_by_name(request.subject.name)
    value = suite_of_cases(client.get_test_cases(known.id).test_cases)
    if value is None:
        return None
    count = len(value["tests"])
    terminal.note(
        f"The package has no tests of its own; the registry's {count} {'case is' if count == 1 else 'cases are'} run."
    )
    return parse_suite_value(value, path="the registry's cases")


async def _by_a_model(package: Package, model: str, config: UserConfig, terminal: Terminal) -> Suite:
    from evals.catalogue import single_proxy_catalogue
    from evals.generating import generate_suite
    from evals.pool import ModelPool
    from evals.suites import parse_suite_value

    catalogue = single_proxy_catalogue(config.local_url, key=config.local_key, models=(model,))
    async with ModelPool(catalogue) as pool:
        generated = await generate_suite(package.instructions, model=model, pool=pool)
    count = len(generated.value["tests"])
    terminal.note(f"{model} wrote {count} case{'' if count == 1 else 's'} for this run; --init keeps them in a file.")
    return parse_suite_value(generated.value, path="generated")
