"""A repository's own rules: what they may say, and that what is wrong is named and never passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.domain.repository_rules import ForkRules, InvalidRules, Rules, read_rules

WHOLE = b"""
packages: [skills/*, "!skills/old"]
models: [gpt-4o, claude-sonnet-4]
gate:
  fail-on: failures
  min-score: 0.8
comment: always
commit-status: true
drafts: true
notify: [slack]
tags:
  upload: true
max-cost-usd: 0.5
forks:
  label: safe to test
  run: deterministic
  max-cost-usd: 0.05
"""


def read(text: bytes) -> Rules:
    return read_rules(text, place=".prpm-testing.yml")


def test_rules__everything_that_can_be_said():
    assert read(WHOLE) == Rules(
        packages=("skills/*", "!skills/old"),
        models=("gpt-4o", "claude-sonnet-4"),
        fail_on="failures",
        min_score=0.8,
        comment="always",
        commit_status=True,
        drafts=True,
        notify=("slack",),
        upload_tags=True,
        max_cost_usd=0.5,
        forks=ForkRules(label="safe to test", run="deterministic", max_cost_usd=0.05),
    )


@pytest.mark.parametrize("text", [b"", b"# nothing yet\n", b"gate:\n", b"packages: []\n"])
def test_rules__what_is_left_out_is_as_usual(text: bytes):
    assert read(text) == Rules()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"gates: {}", "line 1: gates: is not known here; the keys are packages, models, gate,"),
        (b"gate:\n  fail-on: sometimes", "line 2: gate.fail-on: must be one of regressions, failures, never."),
        (b"gate:\n  fail_on: never", "line 2: gate.fail_on: is not known here; the keys are fail-on, min-score."),
        (b"gate:\n  min-score: 80", "line 2: gate.min-score: must be a number from 0 to 1, as scores are."),
        (b"gate:\n  min-score: true", "line 2: gate.min-score: must be a number"),
        (b"models: []", "line 1: models: must be a list of one model or more, each named once."),
        (b"models: [a, a]", "line 1: models: must be a list of one model or more"),
        (b'models: ["a b"]', "line 1: models: must be a list of models' names"),
        (b"comment: loudly", "line 1: comment: must be one of changes, failures, always, never."),
        (b"max-cost-usd: 0", "line 1: max-cost-usd: must be an amount in US dollars above 0"),
        (b"max-cost-usd: .inf", ".prpm-testing.yml"),
        (b"forks: yes", "line 1: forks: must hold label, run, max-cost-usd."),
        (b"forks: {label: ''}", "line 1: forks.label: must be a label's name"),
        (b"notify: [Slack!]", "line 1: notify: must be a list of kinds"),
        (b"- packages", "line 1: the file must hold packages, models, gate,"),
        (b"packages: [a\nmodels: b", ".prpm-testing.yml, line"),
        (b"packages: &a [x]\nmodels: *a", ".prpm-testing.yml, line"),
        (b"drafts: true\ndrafts: false", ".prpm-testing.yml, line 2:"),
        (b"\xff\xfe", ".prpm-testing.yml"),
        (b"a" * 70_000, ".prpm-testing.yml"),
    ],
)
def test_rules__what_is_wrong_is_named_with_its_line(text: bytes, line: str):
    with pytest.raises(InvalidRules) as caught:
        read(text)

    assert str(caught.value).startswith(".prpm-testing.yml")
    assert line in str(caught.value)


def test_rules__all_that_is_wrong_is_named_at_once():
    with pytest.raises(InvalidRules) as caught:
        read(b"gates: {}\ncomment: loudly\nmax-cost-usd: -1\n")

    assert len(caught.value.details) == 3


@pytest.mark.parametrize(
    ("globs", "wanted", "unwanted"),
    [
        ((), ["", "a", "a/b"], []),
        (("skills/*",), ["skills/a"], ["", "skills", "skills/a/b", "other/a"]),
        (("skills/**",), ["skills", "skills/a", "skills/a/b"], ["", "skillset"]),
        (("**/prompts",), ["prompts", "a/b/prompts"], ["a/prompts/b"]),
        ((".",), [""], ["a"]),
        (("./a/",), ["a"], ["", "a/b"]),
        (("skills/*", "!skills/old"), ["skills/a"], ["skills/old", "x"]),
        (("!skills/old",), ["", "skills/a"], ["skills/old"]),
        (("a+b?",), ["a+bc"], ["aab", "a+b/"]),
    ],
)
def test_rules__choose_packages_by_their_folders(globs: tuple[str, ...], wanted: list[str], unwanted: list[str]):
    rules = Rules(packages=globs)

    assert [folder for folder in wanted if not rules.wants(folder)] == []
    assert [folder for folder in unwanted if rules.wants(folder)] == []


def test_rules__what_spends_and_tells_is_the_default_branchs():
    of_branch, default = read(WHOLE), Rules(models=("other",), max_cost_usd=0.1)

    rules = of_branch.with_default_branch(default)

    assert (rules.models, rules.fail_on, rules.min_score) == (of_branch.models, "failures", 0.8)
    assert (rules.max_cost_usd, rules.forks, rules.upload_tags) == (0.1, ForkRules(), False)
    assert (rules.comment, rules.notify, rules.commit_status) == ("changes", None, False)


def test_rules__a_glob_that_backtracking_would_never_end_ends():
    rules = Rules(packages=("*a" * 100, "**/" * 60 + "b"))

    assert not rules.wants("a" * 200 + "/" + "x/" * 30 + "c")


ROOT = Path(__file__).parents[2]


def test_rules__the_published_example_holds_and_the_docs_show_it():
    example = (ROOT / "examples/prpm-testing.yml").read_bytes()

    rules = read(example)

    assert (rules.packages, rules.fail_on, rules.forks) == (("skills/*", "!skills/drafts"), "regressions", ForkRules())
    assert example.decode() in (ROOT / "docs/webhooks.md").read_text()
