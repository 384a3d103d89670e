"""The models file as it is written: its words, and what is wrong with one. Nothing is reached here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from evals.errors import InvalidCatalogue
from evals.json_reader import InvalidText
from evals.models import BACKENDS
from evals.yaml_reader import read_yaml

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Dollars = Annotated[float, Meta(gt=0, le=1_000_000)]


class PriceEntry(Struct, frozen=True, forbid_unknown_fields=True):
    input: Dollars
    output: Dollars


class DeploymentEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    backend: Name
    model: Name
    name: Name | None = None  # tells deployments of the same `model` apart: another key, another region
    key_variable: Name | None = None
    base_url: Name | None = None
    price: PriceEntry | None = None
    free: bool = False
    max_in_flight: Annotated[int, Meta(ge=1, le=10_000)] | None = None  # None: 50, and AGENTS_IN_FLIGHT of agents
    timeout_seconds: Annotated[float, Meta(gt=0, le=3600)] | None = None  # None: 120, and AGENT_SECONDS of an agent
    options: dict[str, Any] = {}
    rank: Annotated[int, Meta(ge=1, le=100)] | None = None
    rpm: Annotated[int, Meta(ge=1, le=100_000_000)] | None = None
    tpm: Annotated[int, Meta(ge=1, le=100_000_000_000)] | None = None

    @property
    def id(self) -> str:
        # A vendor's id already names its vendor; another one gets the backend's name in front.
        plain = self.model if "/" in self.model else f"{self.backend}/{self.model}"
        return f"{plain}@{self.name}" if self.name else plain


class ModelEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    context_tokens: Annotated[int, Meta(ge=1)]
    deployments: Annotated[tuple[DeploymentEntry, ...], Meta(min_length=1)]
    tools: bool = False
    can_judge: bool = True
    proxy_name: Name | None = None
    retired: date | None = None
    successor: Name | None = None
    label: Name | None = None


class EmbedderDeployment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As a model's deployment, with a price for what is read: nothing is written."""

    backend: Name
    model: Name
    key_variable: Name | None = None
    base_url: Name | None = None
    price: Dollars | None = None
    free: bool = False
    max_in_flight: Annotated[int, Meta(ge=1, le=10_000)] = 50
    options: dict[str, Any] = {}

    def as_a_models(self) -> DeploymentEntry:
        return DeploymentEntry(
            backend=self.backend,
            model=self.model,
            key_variable=self.key_variable,
            base_url=self.base_url,
            price=None if self.price is None else PriceEntry(input=self.price, output=0.0),
            free=self.free,
            max_in_flight=self.max_in_flight,
            options=self.options,
        )


class EmbedderEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    deployments: Annotated[tuple[EmbedderDeployment, ...], Meta(min_length=1)]
    proxy_name: Name | None = None

    @property
    def entries(self) -> tuple[DeploymentEntry, ...]:
        return tuple(deployment.as_a_models() for deployment in self.deployments)


class CatalogueFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    default: Name
    models: Annotated[dict[Name, ModelEntry], Meta(min_length=1)]
    embedders: dict[Name, EmbedderEntry] = {}


def parse_catalogue(text: str) -> CatalogueFile:
    """What the file says. Raises InvalidCatalogue with one detail a finding."""
    parsed = _read(text)
    findings = [
        f"models.{name}.deployments[{position}]: {finding}"
        for name, entry in parsed.models.items()
        for position, deployment in enumerate(entry.deployments)
        for finding in _findings(deployment)
    ]
    findings += [
        f"embedders.{name}.deployments[{position}]: {finding}"
        for name, entry in parsed.embedders.items()
        for position, deployment in enumerate(entry.entries)
        for finding in _findings(deployment)
    ]
    findings += [f"embedders.{name}: a model has that name too" for name in parsed.embedders if name in parsed.models]
    if parsed.default not in parsed.models:
        findings.insert(0, f"default: there is no model named {parsed.default!r} in this file")
    findings += [*_ids_given_twice(parsed), *_ranks_given_in_part(parsed)]
    if findings:
        raise InvalidCatalogue(f"The models file cannot be used: {findings[0]}.", findings)
    return parsed


def _read(text: str) -> CatalogueFile:
    try:
        return msgspec.convert(read_yaml(text).value, CatalogueFile)
    except InvalidText as error:
        finding = f"line {error.line}: {error}" if error.line else str(error)
    except msgspec.ValidationError as error:
        finding = str(error)
    raise InvalidCatalogue(f"The models file cannot be used: {finding}.", [finding])


def _findings(deployment: DeploymentEntry) -> Iterable[str]:
    if deployment.price is None and not deployment.free:
        yield "it needs a price {input, output} in USD per million tokens, or `free: true`"
    if deployment.price is not None and deployment.free:
        yield "it has a price and `free: true`; keep one of them"
    if deployment.price is not None and not all(map(math.isfinite, msgspec.structs.astuple(deployment.price))):
        yield "its price is not a number"
    if deployment.backend not in BACKENDS:
        yield f"there is no backend {deployment.backend!r}; known are {', '.join(BACKENDS)}"
        return
    yield from _option_findings(deployment)


def _option_findings(deployment: DeploymentEntry) -> Iterable[str]:
    """A backend with options declares them as a Struct in its attribute `Options`."""
    options = getattr(BACKENDS[deployment.backend], "Options", None)
    if options is None and deployment.options:
        yield f"the backend {deployment.backend} takes no options"
    elif options is not None:
        try:
            msgspec.convert(deployment.options, options)
        except msgspec.ValidationError as error:
            yield f"options: {error}"


def _ids_given_twice(parsed: CatalogueFile) -> Iterable[str]:
    """Two deployments of one model must differ to people; across models, equal ids share their limits."""
    for name, entry in parsed.models.items():
        ids = [deployment.id for deployment in entry.deployments]
        if len(set(ids)) < len(ids):
            yield f"models.{name}.deployments: the same `model` stands there twice; give each a `name`"


def _ranks_given_in_part(parsed: CatalogueFile) -> Iterable[str]:
    for name, entry in parsed.models.items():
        ranks = [deployment.rank for deployment in entry.deployments]
        if None in ranks and len(set(ranks)) > 1:
            yield f"models.{name}.deployments: give each of them a `rank`, or none; without, they are tried in order"
