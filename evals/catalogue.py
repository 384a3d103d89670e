"""Which models people may name, how each is reached and what it costs: the models file, read and checked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from importlib.resources import files
from itertools import groupby
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from evals.errors import InvalidCatalogue, ModelUnreachable, UnknownModel
from evals.json_reader import InvalidText
from evals.models import BACKENDS, Deployment, Secret
from evals.types import Price
from evals.yaml_reader import read_yaml

PROXY_VARIABLE = "PRPM_LITELLM_PROXY_URL"
DEMO_MODEL = "smollm2-135m"
FREE = Price(input=0.0, output=0.0)

_SHOWN_NAME = 80  # characters of an unknown name that an error repeats


class Model(Struct, frozen=True, kw_only=True):
    """A model that can be called; `deployments` are the reachable ones, in the order to try them."""

    name: str
    deployments: tuple[Deployment, ...]
    context_tokens: int | None = None  # None: a user's own proxy does not say
    tools: bool = False
    can_judge: bool = True
    successor: str | None = None  # who answers instead, where the vendor no longer serves the original
    retired: date | None = None  # since when

    @property
    def ranks(self) -> tuple[tuple[Deployment, ...], ...]:
        """The deployments in groups: those of one group share the calls, the next group steps in for them."""
        places = {d.id: place if d.rank is None else d.rank for place, d in enumerate(self.deployments)}
        ordered = sorted(self.deployments, key=lambda d: places[d.id])
        return tuple(tuple(group) for _, group in groupby(ordered, key=lambda d: places[d.id]))


class ModelInfo(Struct, frozen=True, kw_only=True):
    """One model as people and programs read it. Optional fields are left out."""

    name: str
    default: bool
    reachable: bool
    tools: bool
    context_tokens: int | UnsetType = UNSET
    price: Price | UnsetType = UNSET  # USD per million tokens, of the deployment that is tried first
    free: bool | UnsetType = UNSET
    retired: date | UnsetType = UNSET  # since when (or from when on) the vendor no longer serves the original
    successor: str | UnsetType = UNSET  # the id that answers then
    label: str | UnsetType = UNSET
    needs: tuple[str, ...] | UnsetType = UNSET  # variables, any one of which would make it reachable


class Catalogue:
    """The models of one process, with the ways to reach them as its environment allows."""

    def __init__(
        self,
        *,
        default: str,
        models: Iterable[Model],
        infos: Iterable[ModelInfo] = (),
        any_name: Callable[[str], Model] | None = None,
    ) -> None:
        """`any_name` makes a model of a name that is not listed, where every name is as good as another."""
        self.default = default
        self._models = {model.name: model for model in models}
        self._infos = tuple(infos)
        self._any_name = any_name

    @property
    def reachable(self) -> tuple[str, ...]:
        """Names that can be called, in the file's order."""
        return tuple(name for name, model in self._models.items() if model.deployments)

    def resolve(self, name: str) -> Model:
        """The model of that name. Raises UnknownModel, or ModelUnreachable when no deployment has its key."""
        model = self._models.get(name)
        if model is None and self._any_name is not None and name:
            return self._any_name(name)
        if model is None:
            raise UnknownModel(self._unknown_sentence(name))
        if not model.deployments:
            raise ModelUnreachable(self._unreachable_sentence(name))
        return model

    def describe(self) -> tuple[ModelInfo, ...]:
        """Every model of the file, reachable or not, in the file's order."""
        return self._infos

    def needs_backend(self, name: str) -> bool:
        """Whether a reachable deployment uses the backend `name`."""
        return name in self.backends

    @property
    def backends(self) -> frozenset[str]:
        """Names of the backends that reachable deployments use."""
        return frozenset(d.backend for model in self._models.values() for d in model.deployments)

    def _unknown_sentence(self, name: str) -> str:
        shown = name if len(name) <= _SHOWN_NAME else name[:_SHOWN_NAME] + "..."
        closest = difflib.get_close_matches(name[:_SHOWN_NAME], self._models, n=1)
        hint = f"Did you mean {closest[0]}? " if closest else ""
        return f"There is no model named {shown!r}. {hint}Known models: {', '.join(self._models)}."

    def _unreachable_sentence(self, name: str) -> str:
        needs = next((info.needs for info in self._infos if info.name == name and info.needs), ())
        wanted = f"it needs {' or '.join(needs)} in the service's environment" if needs else "it has no deployment"
        usable = ", ".join(self.reachable) or "none"
        return f"The model {name} cannot be reached: {wanted}. Models that can be used: {usable}."


def load_catalogue(
    text: str, *, environ: Mapping[str, str], proxy_url: str | None = None, proxy_key: Secret | None = None
) -> Catalogue:
    """The catalogue of a models file. Raises InvalidCatalogue with one detail a finding.

    Keys are read from `environ`; a deployment whose variable is unset or empty is left out. With `proxy_url`
    each model that has a `proxy_name` is asked for there first. The default is the file's; where that one
    cannot be reached, the first that can, so that a request without a model name is answered.
    """
    parsed = _parse(text)
    proxy = _Proxy(proxy_url, proxy_key) if proxy_url else None
    models = [_model(name, entry, environ, proxy) for name, entry in parsed.models.items()]
    reachable = [model.name for model in models if model.deployments]
    default = parsed.default if parsed.default in reachable or not reachable else reachable[0]
    infos = [
        _info(model, entry, is_default=model.name == default)
        for model, entry in zip(models, parsed.models.values(), strict=True)
    ]
    return Catalogue(default=default, models=models, infos=infos)


def bundled_catalogue_text() -> str:
    """The models file that comes with the engine."""
    return files("evals").joinpath("catalogue.yaml").read_text(encoding="utf-8")


def vendor_key_variables(text: str) -> set[str]:
    """Names of the variables that hold vendors' keys, so that a root can take them out of its environment."""
    return {
        deployment.key_variable
        for entry in _parse(text).models.values()
        for deployment in entry.deployments
        if deployment.key_variable
    }


def demo_catalogue(base_url: str) -> Catalogue:
    """The small local model alone, as default: true answers for a newcomer without any key."""
    text = msgspec.json.encode(
        {
            "default": DEMO_MODEL,
            "models": {
                DEMO_MODEL: {
                    "context_tokens": 4096,
                    "label": "demo",
                    "can_judge": False,
                    "deployments": [
                        {
                            "backend": "openai_compatible",
                            "model": DEMO_MODEL,
                            "base_url": base_url,
                            "free": True,
                            # It computes on this machine's cores: more at once only makes each one slower.
                            "max_in_flight": 2,
                        }
                    ],
                }
            },
        }
    ).decode()
    return load_catalogue(text, environ={})


def single_proxy_catalogue(
    base_url: str,
    *,
    key: Secret | None = None,
    models: tuple[str, ...] = (),
    default: str = "claude-sonnet-4",
) -> Catalogue:
    """A user's own proxy: every name is sent there as it is, and no price is known."""

    def at_the_proxy(name: str) -> Model:
        deployment = Deployment(
            id=f"proxy/{name}",
            backend="openai_compatible",
            model=name,
            price=None,
            base_url=base_url,
            key=key,
        )
        return Model(name=name, deployments=(deployment,))

    named = models or (default,)
    return Catalogue(
        default=named[0],
        models=[at_the_proxy(name) for name in named],
        infos=[ModelInfo(name=name, default=name == named[0], reachable=True, tools=False) for name in named],
        any_name=at_the_proxy,
    )


Name = Annotated[str, Meta(min_length=1, max_length=200)]
Dollars = Annotated[float, Meta(gt=0, le=1_000_000)]


class _PriceEntry(Struct, frozen=True, forbid_unknown_fields=True):
    input: Dollars
    output: Dollars


class _DeploymentEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    backend: Name
    model: Name
    name: Name | None = None  # tells deployments of the same `model` apart: another key, another region
    key_variable: Name | None = None
    base_url: Name | None = None
    price: _PriceEntry | None = None
    free: bool = False
    max_in_flight: Annotated[int, Meta(ge=1, le=10_000)] = 50
    timeout_seconds: Annotated[float, Meta(gt=0, le=3600)] = 120.0
    options: dict[str, Any] = {}
    rank: Annotated[int, Meta(ge=1, le=100)] | None = None
    rpm: Annotated[int, Meta(ge=1, le=100_000_000)] | None = None
    tpm: Annotated[int, Meta(ge=1, le=100_000_000_000)] | None = None

    @property
    def id(self) -> str:
        # A vendor's id already names its vendor; another one gets the backend's name in front.
        plain = self.model if "/" in self.model else f"{self.backend}/{self.model}"
        return f"{plain}@{self.name}" if self.name else plain


class _ModelEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    context_tokens: Annotated[int, Meta(ge=1)]
    deployments: Annotated[tuple[_DeploymentEntry, ...], Meta(min_length=1)]
    tools: bool = False
    can_judge: bool = True
    proxy_name: Name | None = None
    retired: date | None = None
    successor: Name | None = None
    label: Name | None = None


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    default: Name
    models: Annotated[dict[Name, _ModelEntry], Meta(min_length=1)]


class _Proxy(Struct, frozen=True):
    url: str
    key: Secret | None


def _parse(text: str) -> _File:
    parsed = _read(text)
    findings = [
        f"models.{name}.deployments[{position}]: {finding}"
        for name, entry in parsed.models.items()
        for position, deployment in enumerate(entry.deployments)
        for finding in _findings(deployment)
    ]
    if parsed.default not in parsed.models:
        findings.insert(0, f"default: there is no model named {parsed.default!r} in this file")
    findings += [*_ids_given_twice(parsed), *_ranks_given_in_part(parsed)]
    if findings:
        raise InvalidCatalogue(f"The models file cannot be used: {findings[0]}.", findings)
    return parsed


def _read(text: str) -> _File:
    try:
        return msgspec.convert(read_yaml(text).value, _File)
    except InvalidText as error:
        finding = f"line {error.line}: {error}" if error.line else str(error)
    except msgspec.ValidationError as error:
        finding = str(error)
    raise InvalidCatalogue(f"The models file cannot be used: {finding}.", [finding])


def _findings(deployment: _DeploymentEntry) -> Iterable[str]:
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


def _option_findings(deployment: _DeploymentEntry) -> Iterable[str]:
    """A backend with options declares them as a Struct in its attribute `Options`."""
    options = getattr(BACKENDS[deployment.backend], "Options", None)
    if options is None and deployment.options:
        yield f"the backend {deployment.backend} takes no options"
    elif options is not None:
        try:
            msgspec.convert(deployment.options, options)
        except msgspec.ValidationError as error:
            yield f"options: {error}"


def _ids_given_twice(parsed: _File) -> Iterable[str]:
    """Two deployments of one model must differ to people; across models, equal ids share their limits."""
    for name, entry in parsed.models.items():
        ids = [deployment.id for deployment in entry.deployments]
        if len(set(ids)) < len(ids):
            yield f"models.{name}.deployments: the same `model` stands there twice; give each a `name`"


def _ranks_given_in_part(parsed: _File) -> Iterable[str]:
    for name, entry in parsed.models.items():
        ranks = [deployment.rank for deployment in entry.deployments]
        if None in ranks and len(set(ranks)) > 1:
            yield f"models.{name}.deployments: give each of them a `rank`, or none; without, they are tried in order"


def _model(name: str, entry: _ModelEntry, environ: Mapping[str, str], proxy: _Proxy | None) -> Model:
    direct = tuple(
        _deployment(deployment, environ) for deployment in entry.deployments if _has_key(deployment, environ)
    )
    ordered = sorted(_at_proxy(entry, proxy) + direct, key=lambda deployment: deployment.rank or 0)
    return Model(
        name=name,
        deployments=tuple(ordered),
        context_tokens=entry.context_tokens,
        tools=entry.tools,
        can_judge=entry.can_judge,
        successor=entry.successor,
        retired=entry.retired,
    )


def _has_key(deployment: _DeploymentEntry, environ: Mapping[str, str]) -> bool:
    return deployment.key_variable is None or bool(environ.get(deployment.key_variable, "").strip())


def _deployment(entry: _DeploymentEntry, environ: Mapping[str, str]) -> Deployment:
    return Deployment(
        id=entry.id,
        backend=entry.backend,
        model=entry.model,
        price=_price(entry),
        base_url=entry.base_url,
        key=Secret(environ[entry.key_variable].strip()) if entry.key_variable else None,
        max_in_flight=entry.max_in_flight,
        timeout_seconds=entry.timeout_seconds,
        options=entry.options,
        rank=entry.rank,
        rpm=entry.rpm,
        tpm=entry.tpm,
    )


def _at_proxy(entry: _ModelEntry, proxy: _Proxy | None) -> tuple[Deployment, ...]:
    """The operator's LiteLLM proxy, priced as the model's first deployment."""
    if proxy is None or entry.proxy_name is None:
        return ()
    return (
        Deployment(
            id=f"proxy/{entry.proxy_name}",
            backend="openai_compatible",
            model=entry.proxy_name,
            price=_price(entry.deployments[0]),
            base_url=proxy.url,
            key=proxy.key,
            # Before all others, whose ranks begin at 1; without ranks the place in the list counts.
            rank=None if entry.deployments[0].rank is None else 0,
        ),
    )


def _price(entry: _DeploymentEntry) -> Price:
    return Price(input=entry.price.input, output=entry.price.output) if entry.price else FREE


def _info(model: Model, entry: _ModelEntry, *, is_default: bool) -> ModelInfo:
    price = model.deployments[0].price if model.deployments else _price(entry.deployments[0])
    return ModelInfo(
        name=model.name,
        default=is_default,
        reachable=bool(model.deployments),
        tools=entry.tools,
        context_tokens=entry.context_tokens,
        price=UNSET if price is None or price == FREE else price,
        free=True if price == FREE else UNSET,
        retired=entry.retired or UNSET,
        successor=entry.successor or UNSET,
        label=entry.label or UNSET,
        needs=UNSET if model.deployments else _needs(entry),
    )


def _needs(entry: _ModelEntry) -> tuple[str, ...]:
    keys = dict.fromkeys(d.key_variable for d in entry.deployments if d.key_variable)
    return (*keys, *((PROXY_VARIABLE,) if entry.proxy_name else ()))
