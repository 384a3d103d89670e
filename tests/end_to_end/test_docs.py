"""What the documents show is true: examples in them are extracted, parsed, graded and run.

A fenced block of YAML in the suite format is one of three things, told apart by how it begins: a list of
assertions (`- type: ...`), with the answers that pass and fail in comments below it; a suite that has to be
refused (`# refused`); or a whole suite.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from msgspec import Struct

from evals.archives import pack, read_archive
from evals.assertions import ASSERTIONS, Answer, Judgement
from evals.errors import InvalidSuite
from evals.folders import read_folder
from evals.grading import compare_answers, grade
from evals.packages import Package, conversation, read_manifest, read_package
from evals.suites import FoundSuite, find_suite, parse_suite, read_suite
from evals.types import Assertion, AssertionSet, State, Suite
from tests.standins.judges import WillingJudge

ROOT = Path(__file__).parents[2]
FORMAT = "docs/suite-format.md"
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"^# (passes|fails): (.*)$", re.MULTILINE)
LINE_END = "⏎"  # stands for a line's end in an answer of one line


class Block(Struct, frozen=True, kw_only=True):
    """One fenced block of a document."""

    document: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(document: str, language: str) -> list[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(
            document=document,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=textwrap.dedent(found["text"]),
        )
        for found in FENCE.finditer(text)
        if found["language"] == language
    ]


def is_list_of_assertions(block: Block) -> bool:
    return block.text.startswith("- type:")


def is_refused(block: Block) -> bool:
    return block.text.startswith("# refused")


YAML = blocks_of(FORMAT, "yaml")
# A README's YAML may also be a workflow file; those have no `tests`.
SUITES = [
    block
    for block in YAML
    + [block for block in blocks_of("README.md", "yaml") if re.search(r"^tests:", block.text, re.MULTILINE)]
    if not is_list_of_assertions(block) and not is_refused(block)
]
ASSERTION_LISTS = [block for block in YAML if is_list_of_assertions(block)]
REFUSED = [block for block in YAML if is_refused(block)]
FOLDERS = sorted(folder for folder in (ROOT / "examples").iterdir() if folder.is_dir())
# What is no package is workflow files, which have tests of their own.
EXAMPLES = [folder for folder in FOLDERS if not list(folder.glob("*.yml"))]


def wrapped(block: Block) -> Suite:
    """The suite of one case that holds these assertions."""
    text = "tests:\n- input: Say something.\n  assert:\n" + textwrap.indent(block.text, "  ")
    return read_suite(FoundSuite(f"{block.name}.yaml", text.encode()), allow_code=True).suite


def types_in(suite: Suite) -> set[str]:
    """Names of the assertions of a suite, as written."""
    found: set[str] = set()
    for case in suite.cases:
        for entry in case.assertions:
            members: tuple[Assertion, ...] = entry.assertions if isinstance(entry, AssertionSet) else (entry,)
            found |= {member.type for member in members}
    return found


@pytest.mark.parametrize("block", SUITES, ids=lambda block: block.name)
def test_documents__a_suite_in_them_parses(block: Block) -> None:
    suite = parse_suite(block.text, path=block.name)

    assert suite.cases
    assert all(case.messages[-1].content.strip() for case in suite.cases)


JUDGED = [*ASSERTION_LISTS, *(block for block in SUITES if EXPECTED.search(block.text))]


@pytest.mark.parametrize("block", JUDGED, ids=lambda block: block.name)
async def test_documents__an_assertion_judges_as_its_comments_say(block: Block) -> None:
    """Graded ones are judged by a stand-in that likes what the comment says to pass."""
    is_list = is_list_of_assertions(block)
    case = (wrapped(block) if is_list else parse_suite(block.text, path=block.name)).cases[0]
    expected = EXPECTED.findall(block.text)

    found = [
        (
            await grade(
                case,
                Answer(text=answer.replace(LINE_END, "\n"), question=case.messages[-1].content, vars=case.vars),
                WillingJudge(likes=word == "passes"),
                allow_code=True,
            )
        ).state
        for word, answer in expected
    ]

    assert found == [{"passes": "passed", "fails": "failed"}[word] for word, _ in expected]
    assert {word for word, _ in expected} == {"passes", "fails"}


async def test_suite_format__the_answers_that_are_compared_have_one_winner() -> None:
    (block,) = [block for block in SUITES if "select-best" in block.text]
    suite = parse_suite(block.text, path=block.name)
    spec = suite.cases[0].assertions[0]
    assert isinstance(spec, Assertion)
    assert [case.contest for case in suite.cases] == [1, 1]

    said = await compare_answers(spec, [Answer(text="a"), Answer(text="b")], WillingJudge(), allow_code=False)

    assert [judgement.passed for judgement in said if isinstance(judgement, Judgement)].count(True) == 1


@pytest.mark.parametrize("block", REFUSED, ids=lambda block: block.name)
def test_documents__a_suite_that_is_refused(block: Block) -> None:
    with pytest.raises(InvalidSuite, match=r'did you mean "contains"'):
        parse_suite(block.text, path="prpm.test.yaml")


def test_suite_format__shows_every_assertion() -> None:
    shown = set().union(*(types_in(wrapped(block)) for block in ASSERTION_LISTS))
    shown |= set().union(*(types_in(parse_suite(block.text, path=block.name)) for block in SUITES))

    assert sorted(set(ASSERTIONS) - shown) == []


def test_suite_format__its_manifest_holds_a_suite() -> None:
    manifest_text = blocks_of(FORMAT, "json")[0].text
    path = json.loads(manifest_text)["packages"][0]["files"][0]
    files = {"prpm.json": manifest_text.encode(), path: b"Write one entry of a changelog for: $ARGUMENTS"}

    found = find_suite(files, read_manifest(files))

    assert found is not None
    assert types_in(read_suite(found).suite) == {"starts-with"}


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_examples__package_and_suite_are_read(folder: Path) -> None:
    package = an_example(folder)

    assert package.manifest.name in {folder.name, f"@demo/{folder.name}"}
    assert len(suite_of(package).cases) >= 3


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_examples__an_installed_package_is_as_without_its_suite(folder: Path) -> None:
    """PRPM installs every listed file but those of these names: no suite may be among the rest."""
    manifest = json.loads((folder / "prpm.json").read_text(encoding="utf-8"))
    listed = manifest.get("files") or manifest["packages"][0]["files"]

    installed = [path for path in listed if Path(path).name not in {"prpm.json", "README.md", "LICENSE"}]

    assert len(installed) == 1
    assert (folder / installed[0]).is_file()


def test_examples__readme_lists_each() -> None:
    readme = (ROOT / "examples/README.md").read_text(encoding="utf-8")

    listed = re.findall(r"^\| \[([a-z-]+)\]", readme, re.MULTILINE)

    assert sorted(listed) == [folder.name for folder in EXAMPLES]
    assert all(f"]({folder.name})" in readme for folder in FOLDERS)


def test_examples__hello_suits_the_smallest_model() -> None:
    """The demo model is slow on long texts and no judge: under 500 tokens, short answers, no rubric."""
    package = an_example(ROOT / "examples/hello")
    suite = suite_of(package)

    assert len(package.instructions.system) < 1_000
    assert not any(ASSERTIONS[name.removeprefix("not-")].graded for name in types_in(suite))
    assert (suite.temperature, suite.max_tokens <= 60, len(suite.cases)) == (0, True, 6)


# What the demo model said to each case, in the file's order, and what that is worth.
HELLO_ANSWERS = (
    ("The capital of France is Paris.", "passed"),
    ("The Red Planet is Mars.", "passed"),
    ("I'm Nova, a brilliant and compassionate AI. I'm here to help with any problem.", "passed"),
    ("The bridge was closed on Monday because the storm had damaged two of its pillars.", "passed"),
    ("2 + 2 = 4", "failed"),
    ('```json\n{\n  "name": "Nova",\n  "description": "A city in Europe.",\n  "population": 1,', "failed"),
)


async def test_examples__hello_judges_the_demo_models_answers() -> None:
    suite = suite_of(an_example(ROOT / "examples/hello"))

    states = await states_of(suite, [answer for answer, _ in HELLO_ANSWERS])

    assert states == [state for _, state in HELLO_ANSWERS]


# What a large model says to each case of the other examples.
GOOD_ANSWERS = {
    "changelog-entry": [
        "### Added\n- You can now export your invoices as PDF from the billing page.",
        "### Fixed\n- Searching for an emoji no longer crashes (#812).",
        "### Removed\n- Python 3.8 is no longer supported.",
    ],
    "commit-message": [
        "fix(cart): return 0 as average price of an empty cart\n\nThe division failed without items.",
        "docs: correct the install command in the README",
        "feat(cart)!: require the currency for totals\n\nBREAKING CHANGE: pass `currency` to `total()`.",
    ],
    "hello": [
        "The capital of France is Paris.",
        "Mars is known as the Red Planet.",
        "My name is Nova.",
        "A storm damaged two pillars of the bridge, so it is closed for three weeks.",
        "4",
        '{"city": "Paris"}',
    ],
    "incident-update": [
        "Since 13:10 UTC you cannot complete a checkout. We are sorry. Next update: 15:30 UTC.",
        "Since 13:10 UTC you cannot pay. We are sorry. No data is lost. Next update: 15:30 UTC.",
        "Since 14:00 UTC some of you cannot upload photos. Next update: 14:45 UTC.",
    ],
    "python-type-hints": [
        "def median(numbers: Sequence[float]) -> float:\n    ...",
        "def find_user(ages: Mapping[str, int], name: str) -> int | None:\n    return ages.get(name)",
        "def group(words: list[str], limit: int | None = None) -> dict[str, list[str]]:\n    ...",
        "def log_line(text: str) -> None:\n    print(text)",
    ],
}


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
async def test_examples__good_answers_pass(folder: Path) -> None:
    suite = suite_of(an_example(folder))

    states = await states_of(suite, GOOD_ANSWERS[folder.name])

    assert states == ["passed"] * len(suite.cases)


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
async def test_examples__an_evasive_answer_fails_everywhere(folder: Path) -> None:
    suite = suite_of(an_example(folder))

    states = await states_of(suite, ["Sure! I would love to help you with that."] * len(suite.cases), judge_likes=False)

    assert states == ["failed"] * len(suite.cases)


async def states_of(suite: Suite, answers: list[str], *, judge_likes: bool = True) -> list[State]:
    """The state of each case, judged on one answer each."""
    return [
        (await grade(case, Answer(text=answer), WillingJudge(likes=judge_likes))).state
        for case, answer in zip(suite.cases, answers, strict=True)
    ]


def test_examples__changelog_entry_puts_the_input_into_the_command() -> None:
    package = an_example(ROOT / "examples/changelog-entry")

    said = conversation(package.instructions, suite_of(package).cases[0])

    assert [message.role for message in said] == ["user"]
    assert "users can now export their invoices as PDF" in said[0].content
    assert "$ARGUMENTS" not in said[0].content


def an_example(folder: Path) -> Package:
    """The package as a server gets it: read from its folder, packed, and unpacked."""
    return read_package(read_archive(pack(read_folder(folder))))


def suite_of(package: Package) -> Suite:
    assert package.suite is not None
    return read_suite(package.suite).suite


def test_contributing__its_recipes_work_in_a_copy(tmp_path: Path) -> None:
    """Each Python block becomes the file that its first line names; nothing else of the copy changes."""
    recipes = {
        block.text.split("\n", 1)[0].removeprefix("# "): block.text for block in blocks_of("CONTRIBUTING.md", "python")
    }
    for folder in ("evals", "notifiers", "benchmarks", "tests/standins"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/notices.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    for path, text in recipes.items():
        target = tmp_path / path
        assert not target.exists(), f"{path} exists already: choose another example"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    tests = sorted(path for path in recipes if Path(path).name.startswith("test_"))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "9 passed" in ran.stdout
    assert sorted(recipes) == [
        "action_entry/ci/woodpecker.py",
        "evals/assertions/ends_with.py",
        "evals/models/ollama.py",
        "evals/reports/csv_table.py",
        "notifiers/mattermost.py",
        "tests/standins/backends/ollama.py",
        "tests/standins/notifiers/mattermost.py",
        "tests/unit/assertions/test_ends_with.py",
        "tests/unit/models/test_ollama.py",
        "tests/unit/notifiers/test_mattermost.py",
        "tests/unit/reports/test_csv_table.py",
    ]


LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#]+)(?:#[^)]*)?\)")
DOCUMENTS = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    FORMAT,
    "examples/README.md",
    "docs/ci.md",
    "docs/github-action.md",
    *(f"docs/decisions/{path.name}" for path in sorted((ROOT / "docs/decisions").glob("*.md"))),
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents__links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")

    missing = [target for target in LINK.findall(text) if not ((ROOT / document).parent / target).exists()]

    assert missing == []
