"""Which models people may name, how each is reached and what it costs: the models file, read and checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from itertools import groupby

import msgspec
from msgspec import UNSET, Struct, UnsetType

from evals.catalogue_file import CatalogueFile, DeploymentEntry, EmbedderEntry, ModelEntry, parse_catalogue
from evals.errors import ModelUnreachable, UnknownModel
from evals.models import CompletionRequest, Deployment, Secret, runs_agents
from evals.types import Price

PROXY_VARIABLE = "PRPM_LITELLM_PROXY_URL"
EMBEDDER = "text-embedding-3-small"  # asked of a user's own proxy where an assertion names no embedding model
DEMO_MODEL = "smollm2-135m"
FREE = Price(input=0.0, output=0.0)

# An agent is a process of 250 MB for as long as it runs, which may be minutes.
AGENTS_IN_FLIGHT = 4
AGENT_SECONDS = 600.0

_PROXY = "proxy/"  # begins the ids of deployments at a proxy
_SHOWN_NAME = 80  # characters of an unknown name that an error repeats


class Model(Struct, frozen=True, kw_only=True):
    """A model that can be called; `deployments` are the reachable ones, in the order to try them."""

    name: str
    deployments: tuple[Deployment, ...]
    context_tokens: int | None = None  # None: a user's own proxy does not say
    tools: bool = False
    can_judge: bool = True
    agents: tuple[Deployment, ...] = ()  # the same for agents, by backends that run them
    embeds: bool = False  # makes vectors of texts; where any name goes, nobody knows before it is tried
    successor: str | None = None  # who answers instead, where the vendor no longer serves the original
    retired: date | None = None  # since when

    def ways(self, request: CompletionRequest) -> tuple[Deployment, ...]:
        """The deployments that may answer this request, in the order to try them."""
        return self.agents if request.agent is not None else self.deployments

    @property
    def ranks(self) -> tuple[tuple[Deployment, ...], ...]:
        """The deployments in groups: those of one group share the calls, the next group steps in for them."""
        return ranks_of(self.deployments)


def ranks_of(deployments: tuple[Deployment, ...]) -> tuple[tuple[Deployment, ...], ...]:
    """As Model.ranks, of some of its deployments."""
    places = {d.id: place if d.rank is None else d.rank for place, d in enumerate(deployments)}
    ordered = sorted(deployments, key=lambda d: places[d.id])
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
    agents: bool | UnsetType = UNSET  # true: it can run Claude skills, agents and slash commands as agents
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
        embedders: Iterable[Model] = (),
    ) -> None:
        """`any_name` makes a model of a name that is not listed, where every name is as good as another.

        `embedders` are found by name and nowhere listed: they compare texts for assertions and answer nobody.
        """
        self.default = default
        self._models = {model.name: model for model in models}
        self._embedders = {model.name: model for model in embedders}
        self._infos = tuple(infos)
        self._any_name = any_name

    @property
    def reachable(self) -> tuple[str, ...]:
        """Names that can be called, in the file's order."""
        return tuple(name for name, model in self._models.items() if model.deployments)

    @property
    def embedder(self) -> str | None:
        """The embedding model for assertions that name none: the first that can be called, else the first."""
        reachable = [name for name, model in self._embedders.items() if model.deployments]
        return next(iter(reachable or self._embedders), None)

    def resolve(self, name: str) -> Model:
        """The model of that name. Raises UnknownModel, or ModelUnreachable when no deployment has its key."""
        model = self._models.get(name) or self._embedders.get(name)
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

    def notes(self, names: Iterable[str], *, today: date | None = None) -> list[str]:
        """A sentence for each of these models that its vendor no longer serves, and whose successor answers.

        `today` is in UTC. A date ahead says nothing yet, as the original still answers; nor does a model that is asked
        for at an operator's proxy, which has names of its own.
        """
        now = today or datetime.now(UTC).date()
        found = [model for name in names if (model := self._models.get(name)) is not None]
        return [_retired(model) for model in found if _is_succeeded(model, now)]

    def needs_backend(self, name: str) -> bool:
        """Whether a reachable deployment uses the backend `name`."""
        return name in self.backends

    def without_agents(self) -> Catalogue:
        """The same models where no agent can be run."""
        any_name = self._any_name
        return Catalogue(
            default=self.default,
            models=[msgspec.structs.replace(model, agents=()) for model in self._models.values()],
            infos=[msgspec.structs.replace(info, agents=UNSET) for info in self._infos],
            any_name=None if any_name is None else lambda name: msgspec.structs.replace(any_name(name), agents=()),
            embedders=self._embedders.values(),
        )

    @property
    def backends(self) -> frozenset[str]:
        """Names of the backends that reachable deployments use."""
        models = (*self._models.values(), *self._embedders.values())
        return frozenset(d.backend for model in models for d in (*model.deployments, *model.agents))

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


def _is_succeeded(model: Model, today: date) -> bool:
    is_direct = bool(model.deployments) and not model.deployments[0].id.startswith(_PROXY)
    return is_direct and model.successor is not None and (model.retired is None or model.retired <= today)


def _retired(model: Model) -> str:
    since = f" since {model.retired}" if model.retired else ""
    return f"{model.name} is retired by its vendor{since}; its successor {model.successor} answers."


def load_catalogue(
    text: str, *, environ: Mapping[str, str], proxy_url: str | None = None, proxy_key: Secret | None = None
) -> Catalogue:
    """The catalogue of a models file. Raises InvalidCatalogue with one detail a finding.

    Keys are read from `environ`; a deployment whose variable is unset or empty is left out. With `proxy_url`
    each model that has a `proxy_name` is asked for there first. The default is the file's; where that one
    cannot be reached, the first that can, so that a request without a model name is answered.
    """
    parsed = parse_catalogue(text)
    proxy = _Proxy(proxy_url, proxy_key) if proxy_url else None
    models = [_model(name, entry, environ, proxy) for name, entry in parsed.models.items()]
    reachable = [model.name for model in models if model.deployments]
    default = parsed.default if parsed.default in reachable or not reachable else reachable[0]
    infos = [
        _info(model, entry, is_default=model.name == default)
        for model, entry in zip(models, parsed.models.values(), strict=True)
    ]
    embedders = [_embedder(name, entry, environ, proxy) for name, entry in parsed.embedders.items()]
    return Catalogue(default=default, models=models, infos=infos, embedders=embedders)


def bundled_catalogue_text() -> str:
    """The models file that comes with the engine."""
    return files("evals").joinpath("catalogue.yaml").read_text(encoding="utf-8")


@cache
def bundled_embedder_prices() -> Mapping[str, Price]:
    """What embedding models cost by the bundled file, by name; for those who know no operator's own."""
    parsed = parse_catalogue(bundled_catalogue_text())
    return {name: _price(entry.entries[0]) for name, entry in parsed.embedders.items()}


def vendor_key_variables(text: str) -> set[str]:
    """Names of the variables that hold vendors' keys, so that a root can take them out of its environment."""
    parsed = parse_catalogue(text)
    return {
        deployment.key_variable
        for deployments in _all_deployments(parsed)
        for deployment in deployments
        if deployment.key_variable
    }


def _all_deployments(parsed: CatalogueFile) -> Iterable[tuple[DeploymentEntry, ...]]:
    yield from (entry.deployments for entry in parsed.models.values())
    yield from (entry.entries for entry in parsed.embedders.values())


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
            id=f"{_PROXY}{name}",
            backend="openai_compatible",
            model=name,
            price=None,
            base_url=base_url,
            key=key,
        )
        return Model(name=name, deployments=(deployment,), agents=(_for_agents(deployment),), embeds=True)

    named = models or (default,)
    return Catalogue(
        default=named[0],
        models=[at_the_proxy(name) for name in named],
        infos=[ModelInfo(name=name, default=name == named[0], reachable=True, tools=False) for name in named],
        any_name=at_the_proxy,
        embedders=[at_the_proxy(EMBEDDER)],
    )


class _Proxy(Struct, frozen=True):
    url: str
    key: Secret | None


def _model(name: str, entry: ModelEntry, environ: Mapping[str, str], proxy: _Proxy | None) -> Model:
    usable = [deployment for deployment in entry.deployments if _has_key(deployment, environ)]
    at_proxy = _at_proxy(entry.proxy_name, entry.deployments[0], proxy)
    direct = tuple(_deployment(one, environ) for one in usable if not runs_agents(one.backend))
    agents = tuple(_agents(one, environ) for one in usable if runs_agents(one.backend))
    return Model(
        name=name,
        deployments=_ordered(at_proxy + direct),
        agents=_ordered((*map(_for_agents, at_proxy), *agents)),
        context_tokens=entry.context_tokens,
        tools=entry.tools,
        can_judge=entry.can_judge,
        successor=entry.successor,
        retired=entry.retired,
    )


def _ordered(deployments: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
    return tuple(sorted(deployments, key=lambda deployment: deployment.rank or 0))


def _embedder(name: str, entry: EmbedderEntry, environ: Mapping[str, str], proxy: _Proxy | None) -> Model:
    direct = tuple(_deployment(deployment, environ) for deployment in entry.entries if _has_key(deployment, environ))
    at_proxy = _at_proxy(entry.proxy_name, entry.entries[0], proxy)
    return Model(name=name, deployments=at_proxy + direct, can_judge=False, embeds=True)


def _has_key(deployment: DeploymentEntry, environ: Mapping[str, str]) -> bool:
    return deployment.key_variable is None or bool(environ.get(deployment.key_variable, "").strip())


def _deployment(entry: DeploymentEntry, environ: Mapping[str, str]) -> Deployment:
    return Deployment(
        id=entry.id,
        backend=entry.backend,
        model=entry.model,
        price=_price(entry),
        base_url=entry.base_url,
        key=Secret(environ[entry.key_variable].strip()) if entry.key_variable else None,
        max_in_flight=entry.max_in_flight or 50,
        timeout_seconds=entry.timeout_seconds or 120.0,
        options=entry.options,
        rank=entry.rank,
        rpm=entry.rpm,
        tpm=entry.tpm,
    )


def _agents(entry: DeploymentEntry, environ: Mapping[str, str]) -> Deployment:
    return msgspec.structs.replace(
        _deployment(entry, environ),
        max_in_flight=entry.max_in_flight or AGENTS_IN_FLIGHT,
        timeout_seconds=entry.timeout_seconds or AGENT_SECONDS,
    )


def _for_agents(proxy: Deployment) -> Deployment:
    """The same proxy, asked in Anthropic's format: LiteLLM's speaks both for every model."""
    return msgspec.structs.replace(
        proxy,
        id=f"{proxy.id} (agents)",  # its limits and troubles are its own
        backend="claude_agent",
        max_in_flight=AGENTS_IN_FLIGHT,
        timeout_seconds=AGENT_SECONDS,
    )


def _at_proxy(name: str | None, first: DeploymentEntry, proxy: _Proxy | None) -> tuple[Deployment, ...]:
    """The operator's LiteLLM proxy, priced as the model's first deployment."""
    if proxy is None or name is None:
        return ()
    return (
        Deployment(
            id=f"{_PROXY}{name}",
            backend="openai_compatible",
            model=name,
            price=_price(first),
            base_url=proxy.url,
            key=proxy.key,
            # Before all others, whose ranks begin at 1; without ranks the place in the list counts.
            rank=None if first.rank is None else 0,
        ),
    )


def _price(entry: DeploymentEntry) -> Price:
    return Price(input=entry.price.input, output=entry.price.output) if entry.price else FREE


def _info(model: Model, entry: ModelEntry, *, is_default: bool) -> ModelInfo:
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
        agents=True if model.agents else UNSET,
        needs=UNSET if model.deployments else _needs(entry),
    )


def _needs(entry: ModelEntry) -> tuple[str, ...]:
    keys = dict.fromkeys(d.key_variable for d in entry.deployments if d.key_variable)
    return (*keys, *((PROXY_VARIABLE,) if entry.proxy_name else ()))
