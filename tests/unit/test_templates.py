"""Templates: what is filled in, and what a hostile one cannot do."""

from __future__ import annotations

import time
from typing import Any

import pytest

from evals.errors import InvalidSuite
from evals.templates import MAX_RESULT, render, render_value

VARIABLES: dict[str, Any] = {
    "name": "<Ann & Bob>",
    "one": 1.0,
    "yes": True,
    "nothing": None,
    "object": {"a": {"b": [1.0, "x"]}, "items": "own field"},
    "list": ["b", "a"],
    "template": "{{ name }}",
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Hi {{name}}!", "Hi <Ann & Bob>!"),
        ("{{missing}}|{{missing.deeper.still}}|{{nothing}}", "||"),
        ("{{one}} {{yes}} {{ 10 / 4 }} {{ 'a' + 1 }} {{ 1 ~ 2 }}", "1 true 2.5 a1 12"),
        ("{{object.a}} {{object['a'].b[1]}} {{object.items}}", '{"b":[1,"x"]} x own field'),
        ("{{list}} {{list.length}} {{list | sort | join('-')}}", '["b","a"] 2 a-b'),
        ("{% for x in list %}{{loop.index}}{{x | upper}}{% if not loop.last %},{% endif %}{% endfor %}", "1B,2A"),
        ("{% if missing %}a{% else %}b{% endif %}{{ 'y' if yes else 'n' }}", "by"),
        ("{{ missing | default('d') }}{{ name | replace('Ann', 'Eve') | length }}", "d11"),
        ("{{ list | dump }}", '["b","a"]'),
        ("{# gone #}{% raw %}{{name}}{% endraw %}", "{{name}}"),
        ("{{template}}", "{{ name }}"),  # what a variable holds is no template
        ("a\r\n{{one}}\r\n", "a\r\n1\r\n"),
        ("no template { } %} }}", "no template { } %} }}"),
        ("{{ name.upper }}{{ object.keys }}{{ name.__class__ }}{{ self }}{{ loop }}", ""),
        ("{{ range }}{{ lipsum }}{{ cycler }}{{ namespace }}", ""),
    ],
)
def test_render__as_suites_expect(text: str, result: str) -> None:
    assert render(text, VARIABLES) == result


def test_render_value__texts_and_lists_but_not_objects() -> None:
    assert render_value("{{one}}", VARIABLES) == "1"
    assert render_value(["{{one}}", 2, ["{{one}}"]], VARIABLES) == ["1", 2, ["{{one}}"]]
    assert render_value({"const": "{{one}}"}, VARIABLES) == {"const": "{{one}}"}
    assert render_value(5, VARIABLES) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ name", "cannot be used: unexpected end of template"),
        ("{% for x in list %}", "cannot be used"),
        ("{{ name | frobnicate }}", "uses the unknown filter 'frobnicate' (line 1); known are abs,"),
        ("{{ name.upper() }}", "uses call (line 1), which is not available here"),
        ("{{ range(10) }}", "uses call (line 1), which is not available here"),
        ("{% include 'x' %}", "uses include"),
        ("{% import 'x' as y %}", "uses import"),
        ("{% macro m() %}{% endmacro %}", "uses macro"),
        ("{{ 2 ** 9 }}", "uses pow"),
        ("{{ 'a' - 1 }}", "calculates with values that do not fit together"),
        ("{{ 1 / 0 }}", "calculates with values that do not fit together"),
        ("{{ 1 is divisibleby 0 }}", "calculates with values that do not fit together"),
    ],
)
def test_render__unusable_template_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(InvalidSuite) as caught:
        render(text, VARIABLES)

    assert said in str(caught.value)


LOOPS = "{% for a in big %}{% for b in big %}{% for c in big %}"
ENDS = "{% endfor %}{% endfor %}{% endfor %}"

BOMBS = [
    LOOPS + ENDS,
    LOOPS + "{{ 'x' in text }}" + ENDS,
    LOOPS + "{% for d in big %}{% endfor %}" + ENDS,
    "{% for a in list recursive %}{{ loop(list) }}{% endfor %}",
    "{{ text * 1000000 }}",
    "{{ 'a' * 1000000000 }}",
    "{{ '%0999999999d' % 1 }}",
    "{% set a = text %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}",
    "{% set a = text %}" + "{% set a = a + a %}" * 60 + "{{ a }}",
    "{% set a = big %}" + "{% set a = a + a %}" * 60 + "{{ a }}",
    "{{ " + "~".join(["text"] * 2_000) + " }}",
    "{{ [" + ",".join(["text"] * 2_000) + "] | join }}",
    "{{ big | join(text) }}",
    "{{ text | replace('', text) }}",
    "{{ text" + " | dump" * 60 + " }}",
    "{{ text }}" * 200,
    "{{ 9" + " * 999999999999" * 20_000 + " }}",
    "{{ " + "(" * 20_000 + " }}",
    "{{ " + "not " * 20_000 + "x }}",
    "{{ x" + ".y" * 50_000 + " }}",
    "{% if x %}" * 3_000 + "{% endif %}" * 3_000,
    "{% if x %}" * 120 + "{% endif %}" * 120,
    "{{ x }}" * 100_000,
]


@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_render__I12_a_bomb_ends_within_a_second_and_in_a_sentence(text: str) -> None:
    variables: dict[str, Any] = {"big": list(range(5_000)), "text": '"\\' * 10_000, "list": [1]}
    began = time.process_time()

    with pytest.raises(InvalidSuite):
        render(text, variables)

    assert time.process_time() - began < 1


def test_render__result_may_be_as_long_as_the_limit() -> None:
    assert len(render("{{ text }}", {"text": "x" * MAX_RESULT})) == MAX_RESULT
