"""The models file: what it says, what it refuses, and what a process with these keys can call."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import msgspec
import pytest

from evals.catalogue import (
    Catalogue,
    ModelInfo,
    bundled_catalogue_text,
    demo_catalogue,
    load_catalogue,
    single_proxy_catalogue,
    vendor_key_variables,
)
from evals.errors import InvalidCatalogue, ModelUnreachable, UnknownModel
from evals.models import Secret
from evals.types import Price

EVERY_KEY = {
    "ANTHROPIC_API_KEY": "sk-ant-1",
    "OPENAI_API_KEY": "sk-oa-2",
    "DEEPINFRA_API_KEY": "di-3",
    "FIREWORKS_API_KEY": "fw-4",
    "GEMINI_API_KEY": "gm-5",
}
PUBLIC_NAMES = (
    "claude-sonnet-4",
    "claude-opus-4",
    "gpt-4o",
    "gpt-4-turbo",
    "llama-3.1-70b",
    "llama-3.1-8b",
    "gemini-pro",
)


def bundled(environ: dict[str, str] | None = None, *, proxy_url: str | None = None) -> Catalogue:
    key = Secret("sk-proxy") if proxy_url else None
    return load_catalogue(bundled_catalogue_text(), environ=environ or {}, proxy_url=proxy_url, proxy_key=key)


def info(catalogue: Catalogue, name: str) -> ModelInfo:
    return next(found for found in catalogue.describe() if found.name == name)


def a_file(deployment: str = "backend: echo, model: m, free: true", model: str = "", top: str = "") -> str:
    return f"""
default: one
{top}
models:
  one:
    context_tokens: 1000
    {model}
    deployments:
      - {{{deployment}}}
"""


def test_catalogue__holds_the_seven_public_names_with_their_default() -> None:
    catalogue = bundled(EVERY_KEY)

    assert catalogue.reachable == PUBLIC_NAMES
    assert tuple(found.name for found in catalogue.describe()) == PUBLIC_NAMES
    assert catalogue.default == "claude-sonnet-4"
    assert [found.name for found in catalogue.describe() if found.default] == ["claude-sonnet-4"]


@pytest.mark.parametrize(
    ("name", "deployment", "price"),
    [
        ("claude-sonnet-4", "anthropic/claude-sonnet-4-6", (3, 15)),
        ("claude-opus-4", "anthropic/claude-opus-4-8", (5, 25)),
        ("gpt-4o", "openai/gpt-4o", (2.5, 10)),
        ("gpt-4-turbo", "openai/gpt-5.6-sol", (4, 20)),
        ("llama-3.1-70b", "deepinfra/meta-llama/Meta-Llama-3.1-70B-Instruct", (0.4, 0.4)),
        ("llama-3.1-8b", "deepinfra/meta-llama/Meta-Llama-3.1-8B-Instruct", (0.03, 0.05)),
        ("gemini-pro", "gemini/gemini-2.5-pro", (1.25, 10)),
    ],
)
def test_catalogue__public_name_answers_by_a_current_id(name: str, deployment: str, price: tuple[float, float]) -> None:
    first = bundled(EVERY_KEY).resolve(name).deployments[0]

    assert first.id == deployment
    assert first.price == Price(input=price[0], output=price[1])


def test_catalogue__retired_name_says_since_when_and_who_answers() -> None:
    found = info(bundled(EVERY_KEY), "gpt-4-turbo")

    assert (found.retired, found.successor) == (date(2026, 10, 23), "gpt-5.6-sol")


def test_catalogue__description_leaves_out_what_does_not_apply() -> None:
    found = msgspec.to_builtins(info(bundled(EVERY_KEY), "llama-3.1-8b"))

    assert found == {
        "name": "llama-3.1-8b",
        "default": False,
        "reachable": True,
        "tools": True,
        "context_tokens": 131072,
        "price": {"input": 0.03, "output": 0.05},
    }


def test_catalogue__keys_are_in_the_deployments_and_show_themselves_to_nobody() -> None:
    catalogue = bundled(EVERY_KEY)

    deployment = catalogue.resolve("gpt-4o").deployments[0]

    assert deployment.key is not None
    assert deployment.key.reveal() == "sk-oa-2"
    assert "sk-oa-2" not in f"{deployment} {deployment!r} {catalogue.resolve('gpt-4o')!r}"


def test_catalogue__deployment_without_its_key_is_skipped() -> None:
    catalogue = bundled({"FIREWORKS_API_KEY": "fw-4", "DEEPINFRA_API_KEY": "  "})

    deployments = catalogue.resolve("llama-3.1-70b").deployments

    assert [d.id for d in deployments] == ["fireworks_ai/accounts/fireworks/models/llama-v3p1-70b-instruct"]


def test_catalogue__unreachable_model_names_its_variable_and_what_can_be_used() -> None:
    catalogue = bundled({"OPENAI_API_KEY": "sk-oa-2"})

    with pytest.raises(ModelUnreachable) as caught:
        catalogue.resolve("claude-opus-4")

    assert caught.value.message == (
        "The model claude-opus-4 cannot be reached: it needs ANTHROPIC_API_KEY or PRPM_LITELLM_PROXY_URL in "
        "the service's environment. Models that can be used: gpt-4o, gpt-4-turbo."
    )
    assert info(catalogue, "claude-opus-4").needs == ("ANTHROPIC_API_KEY", "PRPM_LITELLM_PROXY_URL")
    assert not info(catalogue, "claude-opus-4").reachable


def test_catalogue__unknown_model_gets_the_closest_name_and_all_of_them() -> None:
    with pytest.raises(UnknownModel) as caught:
        bundled(EVERY_KEY).resolve("gpt4o")

    assert caught.value.message == (
        "There is no model named 'gpt4o'. Did you mean gpt-4o? Known models: claude-sonnet-4, claude-opus-4, "
        "gpt-4o, gpt-4-turbo, llama-3.1-70b, llama-3.1-8b, gemini-pro."
    )


@pytest.mark.parametrize("name", ["", "x" * 10_000, "gpt-4o\0", "\ud800", "openai/gpt-4o", "GPT-4O"])
def test_catalogue__P10_names_outside_the_file_are_unknown_and_shown_short(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        bundled(EVERY_KEY).resolve(name)

    assert len(caught.value.message) < 300
    assert "\0" not in caught.value.message
    caught.value.message.encode()


def test_catalogue__default_without_a_key_is_the_first_that_can_be_called() -> None:
    catalogue = bundled({"OPENAI_API_KEY": "sk-oa-2"})

    assert catalogue.default == "gpt-4o"
    assert info(catalogue, "gpt-4o").default


def test_catalogue__without_any_key_nothing_is_reachable_and_the_default_stays() -> None:
    catalogue = bundled()

    assert catalogue.reachable == ()
    assert catalogue.default == "claude-sonnet-4"


def test_catalogue__proxy_comes_first_for_every_model_and_costs_what_the_model_costs() -> None:
    catalogue = bundled({"OPENAI_API_KEY": "sk-oa-2"}, proxy_url="http://proxy.internal:4000")

    first, second = catalogue.resolve("gpt-4o").deployments

    assert (first.id, first.backend, first.model) == ("proxy/gpt-4o", "openai_compatible", "gpt-4o")
    assert first.base_url == "http://proxy.internal:4000"
    assert first.key is not None
    assert first.key.reveal() == "sk-proxy"
    assert first.price == second.price == Price(input=2.5, output=10)
    assert second.id == "openai/gpt-4o"
    assert catalogue.reachable == PUBLIC_NAMES


def test_catalogue__library_is_needed_only_when_a_reachable_deployment_uses_it() -> None:
    assert bundled({"OPENAI_API_KEY": "sk-oa-2"}).needs_backend("litellm")
    assert not bundled(proxy_url="http://proxy.internal:4000").needs_backend("litellm")
    assert bundled(proxy_url="http://proxy.internal:4000").needs_backend("openai_compatible")


def test_catalogue__reading_it_imports_neither_the_library_nor_an_http_client() -> None:
    code = (
        "import sys; from evals.catalogue import *; "
        "load_catalogue(bundled_catalogue_text(), environ={'OPENAI_API_KEY': 'x'}); "
        "print(sorted({'litellm', 'aiohttp', 'jsonschema'} & set(sys.modules)))"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert run.stdout == "[]\n"


def test_catalogue__vendor_key_variables_are_those_of_the_file() -> None:
    assert vendor_key_variables(bundled_catalogue_text()) == set(EVERY_KEY)


def test_demo_catalogue__holds_the_local_model_alone_as_default() -> None:
    catalogue = demo_catalogue("http://127.0.0.1:22101/v1")

    (found,) = catalogue.describe()
    model = catalogue.resolve(catalogue.default)
    assert msgspec.to_builtins(found) == {
        "name": "smollm2-135m",
        "default": True,
        "reachable": True,
        "tools": False,
        "context_tokens": 4096,
        "free": True,
        "label": "demo",
    }
    assert model.deployments[0].base_url == "http://127.0.0.1:22101/v1"
    assert not model.can_judge


def test_single_proxy_catalogue__sends_every_name_to_the_users_own_proxy_at_an_unknown_price() -> None:
    catalogue = single_proxy_catalogue("http://localhost:4000", key=Secret("sk-own"), models=("a", "b"))

    (deployment,) = catalogue.resolve("anything/at-all").deployments

    assert catalogue.default == "a"
    assert (deployment.model, deployment.price) == ("anything/at-all", None)
    assert deployment.base_url == "http://localhost:4000"
    assert [(found.name, found.reachable) for found in catalogue.describe()] == [("a", True), ("b", True)]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            a_file("backend: echo, model: m"),
            ("models.one.deployments[0]: it needs a price {input, output} in USD per million tokens, or `free: true`"),
        ),
        (
            a_file("backend: echo, model: m, free: true, price: {input: 1, output: 1}"),
            "models.one.deployments[0]: it has a price and `free: true`; keep one of them",
        ),
        (
            a_file("backend: echo, model: m, free: true, options: {latency: 3}"),
            "models.one.deployments[0]: options: Object contains unknown field `latency`",
        ),
        (
            a_file().replace("default: one", "default: two"),
            "default: there is no model named 'two' in this file",
        ),
        (
            a_file() + "      - {backend: echo, model: m, free: true}\n",
            "models.one.deployments: the same `model` stands there twice; give each a `name`",
        ),
        (a_file(model="color: red"), "Object contains unknown field `color` - at `$.models[...]`"),
        (a_file(top="extra: 1"), "Object contains unknown field `extra`"),
    ],
)
def test_catalogue__refuses_and_says_what_where(text: str, finding: str) -> None:
    with pytest.raises(InvalidCatalogue) as caught:
        load_catalogue(text, environ={})

    assert caught.value.details == (finding,)
    assert caught.value.message == f"The models file cannot be used: {finding}."


def test_catalogue__refuses_an_unknown_backend_and_names_the_known_ones() -> None:
    with pytest.raises(InvalidCatalogue, match=r"there is no backend 'telepathy'; known are .*echo.*litellm"):
        load_catalogue(a_file("backend: telepathy, model: m, free: true"), environ={})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "default: one",
        "default: one\nmodels: {}",
        a_file("backend: echo, model: m, price: {input: 0, output: 0}"),
        a_file("backend: echo, model: m, price: {input: -1, output: 2}"),
        a_file("backend: echo, model: m, price: {input: .nan, output: 2}"),
        a_file("backend: echo, model: m, price: {input: .inf, output: 2}"),
        a_file("backend: echo, model: m, price: {input: 1}"),
        a_file("backend: echo, model: m, price: free"),
        a_file("backend: echo, model: m, free: true, max_in_flight: 0"),
        a_file("backend: echo, model: m, free: true, key: sk-in-the-file"),
        a_file(model="retired: yesterday"),
        a_file() + "default: one\n",
        "default: &a one\nmodels: *a",
        "default: !!python/object/apply:os.system [id]",
        "default: {",
        "a: " + "[" * 5000,
    ],
)
def test_catalogue__I9_to_I12_unusable_file_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(InvalidCatalogue) as caught:
        load_catalogue(text, environ={})

    assert caught.value.message.startswith("The models file cannot be used: ")
    assert len(caught.value.message) < 400


def test_catalogue__equal_ranks_are_groups_and_names_tell_equal_models_apart() -> None:
    text = """
default: one
models:
  one:
    context_tokens: 1000
    deployments:
      - {backend: echo, model: m, name: spare, free: true, rank: 2}
      - {backend: echo, model: m, name: east, free: true, rank: 1, rpm: 60, tpm: 1000}
      - {backend: echo, model: m, name: west, free: true, rank: 1}
"""
    model = load_catalogue(text, environ={}).resolve("one")

    assert [[d.id for d in rank] for rank in model.ranks] == [["echo/m@east", "echo/m@west"], ["echo/m@spare"]]
    assert (model.deployments[0].rpm, model.deployments[0].tpm) == (60, 1000)


def test_catalogue__without_ranks_the_order_of_the_file_counts_and_a_proxy_comes_first() -> None:
    text = """
default: one
models:
  one:
    context_tokens: 1000
    proxy_name: at-the-proxy
    deployments: [{backend: echo, model: a, free: true%s}, {backend: echo, model: b, free: true%s}]
"""
    plain = load_catalogue(text % ("", ""), environ={}, proxy_url="http://127.0.0.1:4000").resolve("one")
    ranked = load_catalogue(text % (", rank: 1", ", rank: 1"), environ={}, proxy_url="http://127.0.0.1:4000").resolve(
        "one"
    )

    assert [[d.id for d in rank] for rank in plain.ranks] == [["proxy/at-the-proxy"], ["echo/a"], ["echo/b"]]
    assert [[d.id for d in rank] for rank in ranked.ranks] == [["proxy/at-the-proxy"], ["echo/a", "echo/b"]]


def test_catalogue__ranks_for_some_deployments_only_are_refused() -> None:
    text = """
default: one
models:
  one:
    context_tokens: 1000
    deployments: [{backend: echo, model: a, free: true, rank: 1}, {backend: echo, model: b, free: true}]
"""
    with pytest.raises(InvalidCatalogue, match="give each of them a `rank`, or none"):
        load_catalogue(text, environ={})


@pytest.mark.parametrize(
    ("today", "notes"),
    [
        (date(2026, 6, 14), []),
        (
            date(2026, 6, 15),
            ["claude-sonnet-4 is retired by its vendor since 2026-06-15; its successor claude-sonnet-4-6 answers."],
        ),
    ],
)
def test_catalogue__retired_name_is_said_from_its_day_on(today: date, notes: list[str]) -> None:
    environ = {"ANTHROPIC_API_KEY": "k"}
    direct = load_catalogue(bundled_catalogue_text(), environ=environ)
    at_a_proxy = load_catalogue(bundled_catalogue_text(), environ=environ, proxy_url="http://127.0.0.1:4000")

    assert direct.notes(["claude-sonnet-4"], today=today) == notes
    assert at_a_proxy.notes(["claude-sonnet-4"], today=today) == []
