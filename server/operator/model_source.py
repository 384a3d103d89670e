"""Where the stack's answers come from: the vendors whose keys are set, a proxy, or the small local model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

import evals
from server.operator.demo_model import HOW_TO_GET_A_MODEL, find_weights
from server.operator.errors import OperatorError


class ModelSource(Struct, frozen=True, kw_only=True):
    """`demo_port`: where the local model will listen. `key_variables`: the vendors' names for their keys."""

    kind: Literal["catalogue", "demo", "none"]
    sentence: str
    key_variables: frozenset[str]
    demo_port: int | None = None


def choose_model(environ: Mapping[str, str], *, free_port: Callable[[], int]) -> ModelSource:
    """What this environment can reach. Raises InvalidCatalogue for a models file that cannot be used."""
    keys = key_variables(catalogue_text(environ)) | key_variables(plugins_text(environ))
    if environ.get("PRPM_CATALOGUE", "").strip():
        return ModelSource(kind="catalogue", sentence=f"Models: {environ['PRPM_CATALOGUE']}.", key_variables=keys)
    if environ.get("PRPM_LITELLM_PROXY_URL", "").strip():
        return ModelSource(kind="catalogue", sentence="Models: by your LiteLLM proxy.", key_variables=keys)
    if given := environ.get("PRPM_DEMO_MODEL_URL", "").strip():
        return ModelSource(kind="catalogue", sentence=f"Models: the demo model at {given}.", key_variables=keys)
    if present := sorted(name for name in keys if environ.get(name, "").strip()):
        return ModelSource(kind="catalogue", sentence=f"Models: by {', '.join(present)}.", key_variables=keys)
    if find_weights():
        return ModelSource(
            kind="demo",
            sentence="Model: smollm2-135m, a small local one for demonstrations (no vendor's key is set).",
            key_variables=keys,
            demo_port=free_port(),
        )
    return ModelSource(kind="none", sentence=f"No model can be reached yet. {HOW_TO_GET_A_MODEL}", key_variables=keys)


def key_variables(text: str) -> frozenset[str]:
    """Every name that may be a vendor's variable, read without YAML, whose import would delay the start.

    A name too many does no harm: the API is started without it.
    """
    return frozenset(re.findall(r"""\bkey_variable["']?\s*:\s*["']?([A-Za-z_][A-Za-z0-9_]*)""", text))


def catalogue_text(environ: Mapping[str, str]) -> str:
    """The models file in force; the operator's own is checked. Raises OperatorError, InvalidCatalogue."""
    if given := environ.get("PRPM_CATALOGUE", "").strip():
        try:
            text = Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise OperatorError(f"PRPM_CATALOGUE: {given} cannot be read: {reason}.") from error
        check_catalogue(text, environ=environ)
        return text
    return Path(evals.__file__).with_name("catalogue.yaml").read_text(encoding="utf-8")


def plugins_text(environ: Mapping[str, str]) -> str:
    """The operator's plugins file, checked; empty without one. Raises OperatorError, InvalidPlugins."""
    given = environ.get("PRPM_PLUGINS", "").strip()
    if not given:
        return ""
    try:
        text = Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise OperatorError(f"PRPM_PLUGINS: {given} cannot be read: {reason}.") from error
    from evals.agents.plugins import load_plugins

    load_plugins(text, environ=environ)
    return text


def check_catalogue(text: str, *, environ: Mapping[str, str]) -> None:
    """Raises InvalidCatalogue, before anything is started, with what the worker would find."""
    from evals.catalogue import load_catalogue

    load_catalogue(text, environ=environ)
