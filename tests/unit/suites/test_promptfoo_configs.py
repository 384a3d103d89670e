"""promptfoo's configurations: what they become, and how far their `file://` reaches."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evals.errors import InvalidPackage, InvalidSuite
from evals.folders import read_folder
from evals.packages import read_package
from evals.suites import FoundSuite, ReadSuite, read_suite
from evals.types import Assertion, AssertionSet, Case, DerivedMetric, Message


def read(config: Any, *, at: str = "promptfooconfig.yaml", allow_code: bool = False, **files: str) -> ReadSuite:
    """The suite of a configuration, with other files of the package by their names."""
    text = msgspec.json.encode(config)
    contents = {name: content.encode() for name, content in files.items()}
    return read_suite(FoundSuite(at, text, files={at: text, **contents}), allow_code=allow_code)


def refusal(config: Any, **files: str) -> str:
    with pytest.raises(InvalidSuite) as caught:
        read(config, **files)
    return "\n".join([caught.value.message, *caught.value.details])


def said(case: Case) -> list[str]:
    return [message.content for message in case.messages]


ONE = {"vars": {"q": "one"}}


# --- prompts


def test_prompts__each_makes_a_case_of_each_test() -> None:
    prompts = ["A {{q}}", {"raw": "B {{q}}", "label": "bee"}, "file://p/*.txt"]

    cases = read({"prompts": prompts, "tests": [ONE, {"description": "Second", "vars": {"q": "two"}}]},
                 **{"p/c.txt": "C {{q}}\n---\nD {{q}}\n", "p/d.md": "x"}).suite.cases  # fmt: skip

    assert [said(case) for case in cases[:4]] == [["A one"], ["B one"], ["C one"], ["D one"]]
    assert [case.title for case in cases] == [
        "Test 1 · prompt 1", "Test 1 · bee", "Test 1 · p/c.txt 3", "Test 1 · p/c.txt 4",
        "Second · prompt 1", "Second · bee", "Second · p/c.txt 3", "Second · p/c.txt 4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "prompt",
    [
        '[{"role": "system", "content": "Be {{tone}}"}, {"role": "user", "content": "{{q}}"}]',
        "- role: system\n  content: 'Be {{tone}}'\n- {role: user, content: '{{q}}'}",
    ],
)
def test_prompts__of_several_messages_keep_quotes_in_vars(prompt: str) -> None:
    (case,) = read({"prompts": [prompt], "tests": [{"vars": {"q": 'say "hi"\n', "tone": "kind"}}]}).suite.cases

    assert case.messages == (Message("system", "Be kind"), Message("user", 'say "hi"\n'))


def test_prompts__from_json_files() -> None:
    files = {"p.json": '[{"role": "user", "content": "J {{q}}"}]', "p.jsonl": '"x"\n\n"y"'}

    cases = read({"prompts": ["file://p.json", "file://p.jsonl"], "tests": [ONE]}, **files).suite.cases

    assert [said(case) for case in cases] == [["J one"], ['"x"'], ['"y"']]


# --- vars, options, defaults


def test_vars__a_list_of_texts_makes_a_case_of_each_and_lists_multiply() -> None:
    test = {"description": "T", "input": "{{a}} {{b}} {{c}}", "vars": {"a": ["1", "2"], "b": ["x", "y"], "c": "z"}}

    cases = read({"tests": [test]}).suite.cases

    assert [said(case)[0] for case in cases] == ["1 x z", "1 y z", "2 x z", "2 y z"]
    assert cases[1].title == "T · a: 1, b: y"
    assert cases[1].vars == {"a": "1", "b": "y", "c": "z"}


def test_vars__a_list_stays_one_where_expansion_is_switched_off() -> None:
    test = {
        "input": "{% for x in a %}{{x.n}};{% endfor %}",
        "vars": {"a": [{"n": 1}, {"n": 2}]},
        "options": {"disableVarExpansion": True},
    }

    assert [said(case)[0] for case in read({"tests": [test]}).suite.cases] == ["1;2;"]


def test_vars__from_files_of_the_package() -> None:
    config = {"tests": [{"input": "{{doc}} {{many}}", "vars": {"doc": "file://d.txt", "many": "file://m/*.md"}}]}

    cases = read(config, **{"d.txt": " text\n", "m/1.md": "one", "m/2.md": "two"}).suite.cases
    (shared,) = read({"tests": [{"input": "{{k}}", "vars": "file://v.yaml"}]}, **{"v.yaml": "k: v"}).suite.cases

    assert [said(case)[0] for case in cases] == ["text one", "text two"]
    assert said(shared) == ["v"]


def test_files__are_named_from_the_suites_own_folder() -> None:
    config = {"tests": [{"input": "file://a.txt"}, {"input": "file://../b.txt"}]}

    cases = read(config, at="tests/prpm.json", **{"tests/a.txt": "inner", "b.txt": "outer"}).suite.cases

    assert [said(case)[0] for case in cases] == ["inner", "outer"]


def test_default_test__options_asserts_and_vars() -> None:
    config = {
        "prompts": ["{{q}}"],
        "defaultTest": {
            "vars": {"q": "default"},
            "assert": [{"type": "llm-rubric", "value": "kind"}],
            "options": {"prefix": "<", "suffix": ">", "provider": "openai:gpt-4o-2024-08-06"},
            "metadata": {"x": 1},
        },
        "tests": [{}, {"options": {"prefix": "("}, "assert": [{"type": "equals", "value": "v", "provider": "x"}]}],
    }

    first, second = read(config).suite.cases

    assert (said(first), said(second)) == (["<default>"], ["(default>"])
    assert first.assertions == (Assertion(type="llm-rubric", value="kind", model="gpt-4o"),)
    assert second.assertions[1] == Assertion(type="equals", value="v", model="x")


def test_evaluate_options__repeat_holds_for_every_case() -> None:
    got = read({"evaluateOptions": {"repeat": 3, "maxConcurrency": 9}, "tests": [{"input": "x"}]})

    assert got.suite.cases[0].repeat == 3
    assert "`maxConcurrency` is ignored: how fast a suite runs is decided by who runs it." in got.notes


def test_providers__are_mapped_to_our_names_and_never_swapped() -> None:
    providers = [
        "openai:chat:gpt-4o", {"id": "anthropic:messages:claude-sonnet-4-20250514"}, {"openai:gpt-4o-mini": {}},
        "vertex:gemini-2.5-pro", "openrouter:meta-llama/llama-3.1-8b-instruct", "gpt-4o", "mine",
    ]  # fmt: skip

    got = read({"providers": providers, "tests": [{"input": "x", "assert": [{"type": "equals", "value": "x"}]}]})

    assert got.models == ("gpt-4o", "claude-sonnet-4", "gemini-pro", "llama-3.1-8b", "mine")
    assert got.notes == (
        "`providers` names openai:gpt-4o-mini, which is no model here; choose one with -m.",
        (
            "`providers` does not choose the models; to test with the same ones: "
            "-m gpt-4o,claude-sonnet-4,gemini-pro,llama-3.1-8b,mine"
        ),
    )


# --- tests and scenarios


def test_tests__from_files_of_every_kind() -> None:
    files = {
        "t/a.yaml": "- {input: yaml, assert: [{type: equals, value: 'no'}]}\n- {input: yaml2}",
        "t/b.json": '{"input": "json"}',
        "t/c.jsonl": '{"input": "l1"}\n\n{"input": "l2"}\n',
        "t/d.csv": "q\ncsv\n",
        "t/e.yml": "- file://t/f.yaml",
        "t/f.yaml": "[{input: deep}]",
    }

    cases = read({"prompts": ["{{q}}"], "tests": ["file://t/[a-e].*", {"input": "own"}]}, **files).suite.cases

    assert [said(case)[0] for case in cases] == ["yaml", "yaml2", "json", "l1", "l2", "csv", "deep", "own"]
    assert cases[0].assertions == (Assertion(type="equals", value="no"),)


def test_scenarios__are_sets_of_vars_times_tests_after_the_tests() -> None:
    config = {
        "prompts": ["{{lang}}: {{q}}"],
        "defaultTest": {"assert": [{"type": "contains", "value": "d"}]},
        "tests": [{"vars": {"lang": "en", "q": "0"}}],
        "scenarios": [
            {
                "config": [
                    {"vars": {"lang": "fr", "q": "own"}, "assert": [{"type": "contains", "value": "{{lang}}"}]},
                    {"vars": {"lang": "de"}},
                ],
                "tests": [{"vars": {"q": "1"}, "assert": [{"type": "contains", "value": "t"}]}, {"vars": {"q": "2"}}],
            },
            {"config": [{"vars": {"lang": "it", "q": "3"}}]},
        ],
    }

    cases = read(config).suite.cases

    assert [said(case)[0] for case in cases] == ["en: 0", "fr: 1", "fr: 2", "de: 1", "de: 2", "it: 3"]
    assert [item.value for item in cases[1].assertions if isinstance(item, Assertion)] == ["d", "fr", "t"]
    assert [item.value for item in cases[4].assertions if isinstance(item, Assertion)] == ["d"]


def test_scenarios__alone_are_a_suite_and_may_stand_in_files() -> None:
    config = {"prompts": ["{{a}}"], "scenarios": [{"config": "file://c.yaml", "tests": "file://t.yaml"}]}

    cases = read(config, **{"c.yaml": "[{vars: {a: 1}}, {vars: {a: 2}}]", "t.yaml": "[{}]"}).suite.cases

    assert [said(case)[0] for case in cases] == ["1", "2"]


# --- assertions


def test_assertion_templates__are_referred_to_and_changed() -> None:
    config = {
        "assertionTemplates": {
            "polite": {"type": "icontains", "value": "please {{who}}"},
            "twice": {"$ref": "#/assertionTemplates/polite", "weight": 2},
        },
        "tests": [
            {
                "input": "x",
                "vars": {"who": "Ada"},
                "assert": [
                    {"$ref": "#/assertionTemplates/twice", "metric": "m"},
                    {"type": "assert-set", "assert": [{"$ref": "#/assertionTemplates/polite"}]},
                ],
            }
        ],
    }

    (case,) = read(config).suite.cases

    polite = Assertion(type="icontains", value="please Ada")
    assert case.assertions == (
        msgspec.structs.replace(polite, weight=2.0, metric="m"),
        AssertionSet(assertions=(polite,)),
    )


def test_metrics__are_named_by_templates_too() -> None:
    named = {"type": "contains", "value": "x", "metric": "says {{who}}"}
    config = {
        "defaultTest": {"assert": [named]},
        "tests": [
            {
                "input": "x",
                "vars": {"who": who},
                "assert": [{"type": "assert-set", "assert": [named], "metric": "{{who}}"}],
            }
            for who in ("Ada", "Ben")
        ],
    }

    cases = read(config).suite.cases

    for case, who in zip(cases, ("Ada", "Ben"), strict=True):
        one = Assertion(type="contains", value="x", metric=f"says {who}")
        assert case.assertions == (one, AssertionSet(assertions=(one,), metric=who))


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("#/assertionTemplates/none", "names no assertion template; known are a, loop"),
        ("#/tests/0", "must be #/assertionTemplates/ and a name"),
        ("https://example.org/a.json", "must be #/assertionTemplates/ and a name"),
        ("file://a.json", "must be #/assertionTemplates/ and a name"),
        (7, "must be #/assertionTemplates/ and a name"),
        ("#/assertionTemplates/loop", "leads from template to template without end"),
    ],
)
def test_assertion_templates__R4_references_reach_nothing_else(reference: Any, words: str) -> None:
    templates = {"a": {"type": "equals", "value": "x"}, "loop": {"$ref": "#/assertionTemplates/loop"}}
    config = {"assertionTemplates": templates, "tests": [{"input": "x", "assert": [{"$ref": reference}]}]}

    assert f"tests[0].assert[0].$ref: {words}" in refusal(config)


def test_assertion_values__from_files() -> None:
    asserts = [
        {"type": "equals", "value": "file://want.txt"},
        {"type": "is-json", "value": "file://schema.json"},
        {"type": "contains-any", "value": ["a", "file://want.txt"]},
    ]

    (case,) = read(
        {"tests": [{"input": "x", "assert": asserts}]}, **{"want.txt": "this\n", "schema.json": '{"type": "object"}'}
    ).suite.cases

    assert [item.value for item in case.assertions if isinstance(item, Assertion)] == [
        "this", {"type": "object"}, ["a", "this"],
    ]  # fmt: skip


def test_derived_metrics__are_read_and_checked() -> None:
    metrics = [{"name": "mean", "value": "accuracy / __count"}, {"name": "f1", "value": "2*p*r/(p+r)"}]

    assert read({"derivedMetrics": metrics, "tests": [{"input": "x"}]}).suite.derived_metrics == (
        DerivedMetric("mean", "accuracy / __count"),
        DerivedMetric("f1", "2*p*r/(p+r)"),
    )
    assert "derivedMetrics[0].value: that function is not known" in refusal(
        {"derivedMetrics": [{"name": "x", "value": "open('a')"}], "tests": [{"input": "x"}]}
    )


# --- limits, and attacks on them


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("file://../secret.txt", "leads out of the package"),
        ("file://a/../../secret.txt", "leads out of the package"),
        ("file://a/b/../../../x", "leads out of the package"),
        ("file:///etc/passwd", "must be a path inside the package"),
        ("file://~/.ssh/id_rsa", "must be a path inside the package"),
        ("file://C:\\x.txt", "must be a path inside the package"),
        ("file://..\\x.txt", "must be a path inside the package"),
        ("file://%2e%2e/x.txt", "is not in the package"),
        ("file://none.txt", "is not in the package (did you mean note.txt?)"),
        ("file://**/**/**/x", "holds more than two **"),
        ("file://{{name}}.txt", "holds a template; write the name out"),
        ("file://", "names no file"),
        ("file://a\u202eb", "names no file"),
        ("file://" + "x" * 501, "names no file"),
        ("file://host/share:stream", "must be a path inside the package"),
    ],
)
@pytest.mark.parametrize("where", ["vars", "value", "tests", "prompts", "input", "defaultTest", "scenario"])
def test_file__I3_reaches_the_packages_own_files_only(reference: str, words: str, where: str) -> None:
    configs: dict[str, Any] = {
        "vars": {"tests": [{"input": "x", "vars": {"a": {"deep": [reference]}}}]},
        "value": {"tests": [{"input": "x", "assert": [{"type": "equals", "value": reference}]}]},
        "tests": {"tests": [reference]},
        "prompts": {"prompts": [{"id": reference}], "tests": [ONE]},
        "input": {"tests": [{"input": reference}]},
        "defaultTest": {"defaultTest": reference, "tests": [{"input": "x"}]},
        "scenario": {"scenarios": [{"config": reference}]},
    }

    assert words in refusal(configs[where], **{"note.txt": "x"})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"tests": "https://docs.google.com/x"}, "tests: tests from addresses, services and programs"),
        ({"tests": ["huggingface://datasets/x"]}, "tests[0]: tests from addresses"),
        ({"tests": "t.csv"}, "looks like the name of a file; write file://t.csv"),
        ({"tests": "file://gen.py"}, "gen.py runs code; tests come from YAML, JSON, JSONL and CSV files"),
        ({"tests": {"path": "file://gen.py", "config": {}}}, "gen.py"),
        ({"tests": "file://t.xlsx"}, "t.xlsx cannot be read here"),
        ({"prompts": ["file://gen.py"], "tests": [ONE]}, "prompts from py files are not supported"),
        ({"prompts": ["exec:./x"], "tests": [ONE]}, "prompts from commands and addresses"),
        ({"prompts": ["https://x.example"], "tests": [ONE]}, "prompts from commands and addresses"),
        ({"prompts": ["p.txt"], "tests": [ONE]}, "looks like the name of a file; write file://p.txt"),
        ({"prompts": ['[{"role": "user", "content": {{q}}}]'], "tests": [ONE]}, "templates in it need quotes"),
        ({"tests": [{"input": "x", "vars": {"a": "file://gen.py"}}]}, "is code, which makes no vars here"),
        (
            {"tests": [{"input": "x", "assert": [{"type": "equals", "value": "file://gen.py"}]}]},
            "is code; only the assertions `javascript` and `python` run any",
        ),
        (
            {"tests": [{"input": "x", "assert": [{"type": "is-json", "value": {"a": "file://gen.py"}}]}]},
            "file:// is not supported inside an object",
        ),
        ({"tests": [{"input": "x {{ env.HOME }}"}]}, "templates cannot read environment variables"),
        ({"tests": [{"input": "x", "vars": {"a": "{% if env['KEY'] %}y{% endif %}"}}]}, "environment variables"),
        (
            {"tests": [{"input": "{% for m in _conversation %}{{ m.input }}{% endfor %}x"}]},
            "as the `turns` of one case",
        ),
        ({"tests": [{"input": "{{ {'a': env.HOME} }}"}]}, "environment variables"),
        ({"env": {"A": "b"}, "tests": [{"input": "x"}]}, "promptfoo's `env` is not supported"),
        ({"extensions": ["file://x.py:f"], "tests": [{"input": "x"}]}, "`extensions` is not supported"),
        ({"nunjucksFilters": {"f": "x.js"}, "tests": [{"input": "x"}]}, "`nunjucksFilters` is not supported"),
        ({"tests": [{"input": "x", "options": {"transform": "output"}}]}, "`transform` is not supported"),
        ({"tests": [{"input": "x", "assertScoringFunction": "f"}]}, "`assertScoringFunction` is not supported"),
        ({"tests": [{"input": "x", "providerOutput": "y"}]}, "`providerOutput` is not supported"),
        ({"tests": [{"input": "x", "assert": [{"type": "javascript", "value": "1"}]}]}, "javascript: runs the author"),
        ({"tests": [{"input": "x", "assert": [{"type": "not-python", "value": "1"}]}]}, "not-python: runs the author"),
        ({"tests": "file://bad.yaml"}, "bad.yaml, line 2: anchors"),
        ({"tests": "file://bad.json"}, "bad.json"),
        ({"tests": "file://bad.jsonl"}, "bad.jsonl: line 2: not JSON"),
    ],
)
def test_config__what_a_suite_may_not_do_is_refused_by_name(config: Any, words: str) -> None:
    files = {"gen.py": "x", "t.xlsx": "x", "bad.yaml": "-\n  input: &a x", "bad.json": "{", "bad.jsonl": "{}\n{"}

    assert words in refusal(config, **files)


def test_tests_and_prompts__bare_names_of_the_packages_files_are_those_files() -> None:
    config = {"prompts": ["prompts/*.txt", "{{ q }}"], "tests": ["cases/one.yaml", "cases.csv"]}

    suite = read(
        config,
        **{
            "prompts/a.txt": "Say {{ q }}",
            "cases/one.yaml": "- vars: {q: one}\n",
            "cases.csv": "q,__expected\ntwo,contains:two\n",
        },
    ).suite

    assert [said(case) for case in suite.cases] == [["Say one"], ["one"], ["Say two"], ["two"]]


@pytest.mark.parametrize("name", ["../t.csv", "/etc/t.csv", "~/t.csv", "a:t.csv"])
def test_tests__I3_bare_names_reach_the_packages_own_files_only(name: str) -> None:
    assert "tests[0]" in refusal({"tests": [name]}, **{"t.csv": "q,__expected\none,one\n"})


@pytest.mark.parametrize("piece", ["{{", "{% ", "{{ env ", "{{ }", "{{ env", "{{ env }} ", "{{ env       "])
def test_template__R1_many_open_braces_are_read_in_no_time(piece: str) -> None:
    began = time.process_time()

    with suppress(InvalidSuite):
        read({"tests": [{"input": piece * (190_000 // len(piece))}]})

    assert time.process_time() - began < 2


def test_file__that_names_itself_ends() -> None:
    began = time.process_time()

    found = refusal({"tests": ["file://t.yaml"]}, **{"t.yaml": "\n".join(["- file://t.yaml"] * 50)})

    assert "files name files more than 4 deep" in found
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"tests": [{"input": "x", "vars": {f"v{i}": [str(j) for j in range(10)] for i in range(12)}}]},
            "more than 2,000 cases, as each list of vars and each prompt multiplies",
        ),
        (
            {"prompts": ["{{q}}"] * 100, "tests": [ONE] * 2_000},
            "more than 2,000 cases",
        ),
        (
            {"prompts": ["x"], "scenarios": [{"config": [{}] * 1_000, "tests": [{}] * 1_000}]},
            "scenarios[0]: has 1,000,000 test cases; 2,000 are the most",
        ),
        ({"tests": [{"input": "{{a}}", "vars": {"a": "file://big.txt"}}] * 1_000}, "files make more than"),
        ({"tests": ["file://list.yaml"] * 100}, "test cases; 2,000 are the most"),
    ],
)  # fmt: skip
def test_config__I13_what_multiplies_is_stopped_soon(config: Any, words: str) -> None:
    began = time.process_time()

    found = refusal(config, **{"big.txt": "x" * 150_000, "list.yaml": "- {input: x}\n" * 1_000})

    assert words in found
    assert time.process_time() - began < 5


# --- the folder around a suite


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def test_folder__files_that_a_suite_names_travel_and_are_not_told(tmp_path: Path) -> None:
    config = "prompts: ['file://prompts/*.txt']\ntests: file://tests/all.yaml\n"
    folder = write(
        tmp_path,
        **{
            "CLAUDE.md": "Be brief.",
            "promptfooconfig.yaml": config,
            "prompts/a.txt": "{{q}}",
            "tests/all.yaml": "- file://tests/more.csv",
            "tests/more.csv": "q\nhi\n",
            "unnamed.txt": "x",
        },
    )

    files = read_folder(folder)
    package = read_package(files)

    assert sorted(files) == [
        "CLAUDE.md", "promptfooconfig.yaml", "prompts/a.txt", "tests/all.yaml", "tests/more.csv",
    ]  # fmt: skip
    assert package.instructions.files == ("CLAUDE.md",)
    assert package.suite is not None
    assert [said(case) for case in read_suite(package.suite).suite.cases] == [["hi"]]


def test_folder__a_suite_takes_no_secrets_along(tmp_path: Path) -> None:
    """A stranger's suite is tested in a folder where its user keeps more than the package."""
    names = ["file://.env", "file://.aws/credentials.txt", "file://key.pem", "file://../outside.txt", "file://*"]
    write(tmp_path, **{"outside.txt": "secret"})
    folder = write(
        tmp_path / "package",
        **{
            "CLAUDE.md": "x",
            ".env": "KEY=secret",
            ".aws/credentials.txt": "secret",
            "key.pem": "secret",
            "promptfooconfig.yaml": "tests:\n" + "".join(f"- {{input: '{name}'}}\n" for name in names),
        },
    )

    assert sorted(read_folder(folder)) == ["CLAUDE.md", "promptfooconfig.yaml"]


def test_folder__a_link_that_a_suite_names_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path, **{"outside.txt": "secret"})
    folder = write(
        tmp_path / "package", **{"CLAUDE.md": "x", "promptfooconfig.yaml": "tests: [{input: 'file://l.txt'}]"}
    )
    (folder / "l.txt").symlink_to("../outside.txt")

    package = read_package(read_folder(folder))

    assert package.suite is not None
    with pytest.raises(InvalidSuite, match=r"file://l\.txt is not in the package"):
        read_suite(package.suite)


def test_package__of_which_the_suite_names_all_files_is_still_one() -> None:
    files = {"CLAUDE.md": b"Be brief.", "t.csv": b"q\nx\n"}
    config = b"prompts: ['file://CLAUDE.md']\ntests: file://t.csv"

    assert read_package({**files, "promptfooconfig.yaml": config}).instructions.files == ("CLAUDE.md",)
    with pytest.raises(InvalidPackage):
        read_package({"promptfooconfig.yaml": config})
