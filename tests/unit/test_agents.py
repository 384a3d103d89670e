"""Which packages are run as agents, as which, with which tools and files; and what a relay reads in a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evals.agents.choosing import FrameworkUnavailable, Wish, choose
from evals.agents.grants import grant, refused
from evals.agents.layout import lay_out
from evals.agents.plugins import InvalidPlugins, PinnedPlugin, UnknownPlugin, load_plugins
from evals.agents.transcript import StreamReader
from evals.catalogue import Model, load_catalogue
from evals.models import Deployment
from evals.packages import read_package
from evals.types import Case, Message, Suite
from tests.agents import a_claude_agent, a_command, a_skill

RULE = {"AGENTS.md": b"Be short."}
CALCULATOR = PinnedPlugin(name="calculator", tools={"add": "sha256:" + "0" * 64}, command=("/usr/bin/true",))
RUNS = Model(name="able", deployments=(), agents=(Deployment(id="a", backend="claude_agent", model="m", price=None),))
ALONE = Model(name="unable", deployments=())
ONE = Case(title="t", messages=(Message("user", "q"),))
TWO = Case(title="t", messages=(Message("user", "q"), Message("assistant", "a"), Message("user", "q")))


def chosen(files: dict[str, bytes], asked: Any = None, *, cases: tuple[Case, ...] = (ONE,), **changes: Any) -> Any:
    suite = Suite(cases=cases, framework=changes.pop("suite_says", None))
    return choose(read_package(files), files, Wish(**({"asked": asked, "suite": suite, "models": [RUNS]} | changes)))


@pytest.mark.parametrize(
    ("files", "is_agent"),
    [
        (a_claude_agent("Review."), True),
        (a_skill("Help.", tools="Read"), True),
        (a_skill("Help."), False),
        (a_command("Greet $1."), False),
        (RULE, False),
    ],
)
def test_auto__takes_an_agent_for_claude_agents_and_skills_that_need_tools(
    files: dict[str, bytes], is_agent: bool
) -> None:
    assert (chosen(files).agent is not None) is is_agent
    assert chosen(files).notes == ()


def test_auto__takes_an_agent_where_there_are_plugins() -> None:
    assert "mcp__calculator__add" in chosen(a_skill("Help."), plugins=(CALCULATOR,)).agent.rules


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"why_not": "bubblewrap is not installed"}, "bubblewrap is not installed"),
        ({"models": [RUNS, ALONE]}, "unable has no deployment that runs agents"),
        ({"cases": (TWO,)}, "a case has more than one message, and an agent is asked one thing"),
    ],
)
def test_choice__without_a_sandbox_auto_falls_back_and_the_others_are_refused(
    changes: dict[str, Any], sentence: str
) -> None:
    fallen = chosen(a_claude_agent("Review."), "auto", **changes)

    assert fallen.agent is None
    assert fallen.notes == (f"Run without tools, by the framework litellm: {sentence}.",)
    with pytest.raises(FrameworkUnavailable, match=f"cannot run this: {sentence}. Use litellm or auto"):
        chosen(a_claude_agent("Review."), "claude-agent", **changes)
    with pytest.raises(FrameworkUnavailable, match=f"Plugins cannot be used for this: {sentence}"):
        chosen(a_skill("Help."), plugins=(CALCULATOR,), **changes)


def test_choice__the_suite_says_it_where_nobody_else_does() -> None:
    assert chosen(a_command("Greet $1."), suite_says="claude-agent").agent is not None
    assert chosen(a_claude_agent("Review."), suite_says="litellm").agent is None
    assert chosen(a_claude_agent("Review."), "auto", suite_says="litellm").agent is not None


def test_choice__what_is_no_claude_package_is_no_agent() -> None:
    with pytest.raises(FrameworkUnavailable, match="only Claude skills, agents and slash commands"):
        chosen(RULE, "claude-agent")
    with pytest.raises(FrameworkUnavailable, match="Plugins are for agents"):
        chosen(a_skill("Help."), "litellm", plugins=(CALCULATOR,))


def test_choice__tells_which_tools_were_not_given() -> None:
    found = chosen(a_claude_agent("Review.", tools="Read, WebFetch, Bash(git:*), mcp__other__x"))

    assert found.agent.rules == ("Read", "Bash(git:*)")
    assert found.notes == ("The package asks for WebFetch, mcp__other__x, which the agent was not given.",)


@pytest.mark.parametrize(
    ("kind", "asked", "given"),
    [
        ("skill", [], ("Skill", "Glob", "Grep", "Read")),
        ("skill", ["Bash(python:*)"], ("Skill", "Bash(python:*)", "Glob", "Grep", "Read")),
        ("agent", [], ("Glob", "Grep", "Read")),
        ("agent", ["Write"], ("Write",)),
        ("agent", ["Task", "Agent", "WebSearch"], ("Glob", "Grep", "Read")),
        ("slash-command", [], ()),
        ("slash-command", ["Edit", "Edit", "x(", "Bash(a) Bash(b)"], ("Edit",)),
    ],
)
def test_grant__gives_what_is_asked_for_and_may_be_given(kind: Any, asked: list[str], given: tuple[str, ...]) -> None:
    assert grant(asked, kind=kind, plugins=()) == given
    assert refused(["Read", "Task"], plugins=()) == ("Task",)


def test_layout__P10_keeps_settings_and_other_peoples_prompts_out() -> None:
    files = {
        "skills/x/SKILL.md": b"---\nname: x\nmodel: opus\nhooks:\n  Stop:\n    - hooks: []\n\n  Start: 1\n"
        b"allowed-tools: Read\n---\nmodel: stays\n",
        "skills/x/sub/ref.md": b"---\nmodel: opus\n---\nr",
        "skills/x/CLAUDE.md": b"own",
        ".claude/settings.json": b"{}",
        ".claude/hooks/a.sh": b"",
        "CLAUDE.md": b"",
        "docs/CLAUDE.local.md": b"",
        ".mcp.json": b"",
        "data/a.bin": b"\0\xff",
    }  # fmt: skip

    laid = lay_out(files, main="skills/x/SKILL.md", kind="skill", name="x")

    assert sorted(laid) == [
        ".claude/skills/x/CLAUDE.md", ".claude/skills/x/SKILL.md", ".claude/skills/x/sub/ref.md",
        "data/a.bin",
    ]  # fmt: skip
    assert laid[".claude/skills/x/SKILL.md"] == b"---\nname: x\nallowed-tools: Read\n---\nmodel: stays\n"
    assert laid["data/a.bin"] == b"\0\xff"


def test_layout__finds_a_skill_at_the_root_an_agent_and_a_command() -> None:
    root = lay_out({"SKILL.md": b"s", "ref.md": b"r"}, main="SKILL.md", kind="skill", name="x")
    agent = lay_out({"agents/y.md": b"a"}, main="agents/y.md", kind="agent", name="y")
    command = lay_out({".claude/commands/a/z.md": b"c"}, main=".claude/commands/a/z.md", kind="slash-command", name="z")

    assert root == {".claude/skills/x/SKILL.md": b"s", ".claude/skills/x/ref.md": b"r"}
    assert agent == {".claude/agents/y.md": b"a"}
    assert command == {".claude/commands/z.md": b"c"}


FILE = """
plugins:
  calculator:
    command: [/usr/bin/python3, /opt/calculator.py]
    files: {/opt/calculator.py: %s}
    tools: {add: %s}
  tickets: {url: https://mcp.example.com/mcp, key_variable: TICKETS_TOKEN, tools: {search: %s}}
  unpinned: {url: https://mcp.example.com/other}
""" % (("sha256:" + "0" * 64,) * 3)


def test_plugins__are_read_with_their_keys_and_chosen_by_name() -> None:
    catalogue = load_plugins(FILE, environ={"TICKETS_TOKEN": "tok-canary"})

    calculator, tickets = catalogue.choose(["calculator", "tickets", "calculator"])

    assert calculator.rules == ("mcp__calculator__add",)
    assert tickets.key is not None
    assert tickets.key.reveal() == "tok-canary"
    assert "tok-canary" not in repr(tickets)
    with pytest.raises(UnknownPlugin, match=r"There is no plugin calculater \(did you mean calculator\?\)"):
        catalogue.choose(["calculater"])
    with pytest.raises(UnknownPlugin, match="The plugin unpinned has no approved tools yet"):
        catalogue.choose(["unpinned"])


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("{}", "it needs a `command` or a `url`"),
        ("{command: [/bin/a], url: 'https://a'}", "it needs a `command` or a `url`"),
        ("{url: 'file:///etc/passwd'}", "its `url` must begin with"),
        ("{command: [a]}", "a must be an absolute path"),
        ("{command: [/bin/a], folders: [/opt/../root]}", "/opt/../root must be an absolute path"),
        ("{command: [/bin/a], key_variable: K}", "gets no key"),
        ("{url: 'https://a', key_variable: K}", "the variable K is not set"),
        ("{url: 'https://a', tools: {add: abc}}", "Expected `str` matching"),
        ("{url: 'https://a', colour: red}", "unknown field `colour`"),
    ],
)
def test_plugins__a_file_that_cannot_be_used_is_refused_with_its_place(entry: str, sentence: str) -> None:
    with pytest.raises(InvalidPlugins, match="The plugins file cannot be used: ") as caught:
        load_plugins(f"plugins: {{p: {entry}}}", environ={})

    assert sentence in caught.value.details[0]


def test_catalogue__agents_deployments_answer_agents_alone() -> None:
    catalogue = load_catalogue(
        """
        default: m
        models:
          m:
            context_tokens: 10
            deployments:
              - {backend: echo, model: e, free: true}
              - {backend: claude_agent, model: c, base_url: "http://127.0.0.1:9", free: true}
          plain: {context_tokens: 10, deployments: [{backend: echo, model: e2, free: true}]}
        """,
        environ={},
    )

    model = catalogue.resolve("m")

    assert [(d.backend, d.timeout_seconds, d.max_in_flight) for d in model.deployments] == [("echo", 120, 50)]
    assert [(d.backend, d.timeout_seconds, d.max_in_flight) for d in model.agents] == [("claude_agent", 600, 4)]
    assert next(info.agents for info in catalogue.describe()) is True
    assert catalogue.without_agents().resolve("m").agents == ()
    assert catalogue.without_agents().resolve("m").deployments == model.deployments


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events)


WHOLE = stream(
    {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 5, "cache_read_input_tokens": 2}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grüße"}},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t1", "name": "Read"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}},
    {"type": "message_stop"},
)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_stream__is_read_in_pieces_of_any_size(size: int) -> None:
    reader = StreamReader()
    for start in range(0, len(WHOLE), size):
        reader.feed(WHOLE[start : start + size])

    said = reader.said()

    assert reader.is_whole
    assert (said.text, said.model, said.stop_reason) == ("Grüße", "m", "tool_use")
    assert [(call.name, call.arguments) for call in said.calls] == [("Read", '{"a":1}')]
    assert (said.input_tokens, said.output_tokens) == (7, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>", b"data: [", b"data: 7\n", b'data: {"type": "message_start", "message": 7}\n',
        b'data: {"type": "content_block_delta", "index": {}, "delta": []}\n',
        b'data: {"type": "content_block_start", "index": "x", "content_block": {"type": "text"}}\n',
        b'data: {"type": "message_delta", "usage": {"output_tokens": -1}}\n', b"data: " + b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
def test_stream__nonsense_is_nothing_said(content: bytes) -> None:
    reader = StreamReader()

    reader.feed(content)

    assert not reader.is_whole
    assert (reader.said().text, reader.said().output_tokens) == ("", None)
