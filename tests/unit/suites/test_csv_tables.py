"""CSV files of tests: what a row means, and cells that promptfoo would read as something else."""

from __future__ import annotations

from typing import Any

import pytest

from evals.errors import InvalidSuite
from evals.suites import FoundSuite, ReadSuite, read_suite
from evals.suites.cells import InvalidCell, read_cell
from evals.types import Assertion, Message


def read_csv(text: str | bytes) -> ReadSuite:
    content = text if isinstance(text, bytes) else text.encode()
    config = b"prompts: ['{{q}}']\ntests: file://t.csv\n"
    files = {"promptfooconfig.yaml": config, "t.csv": content}
    return read_suite(FoundSuite("promptfooconfig.yaml", config, files=files))


def refusal(text: str | bytes) -> str:
    with pytest.raises(InvalidSuite) as caught:
        read_csv(text)
    return "\n".join([caught.value.message, *caught.value.details])


def test_csv__every_column_of_promptfoo() -> None:
    text = (
        "\ufeffq,lang,__expected1,__expected2,__description,__prefix,__suffix,__metric,__threshold,__metadata:a,"
        "__config:__expected2:threshold\r\n"
        '"one, ""two""\nthree",fr,"icontains-any:""a,b""",levenshtein(9):x,My test,Now: ,!,m,0.5,x,3\r\n'
        "\r\n"
        "plain,,, ,,,,,,,\r\n"
    )

    read = read_csv(text)

    first, second = read.suite.cases
    assert first.title == "My test"
    assert first.messages == (Message("user", 'Now: one, "two"\nthree!'),)
    assert first.vars == {"q": 'one, "two"\nthree', "lang": "fr"}
    assert first.threshold == 0.5
    assert first.assertions == (
        Assertion(type="icontains-any", value=["a,b"], metric="m"),
        Assertion(type="levenshtein", value="x", threshold=3.0, metric="m"),
    )
    assert first.line == 2
    assert (second.title, second.assertions, second.line) == ("Test 2", (), 5)
    assert "`__metadata:` columns are ignored: metadata is not used." in read.notes


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("contain:Paris", "contain is no assertion (did you mean contains?); write `equals:contain:Paris`"),
        ("Contains:Paris", "Contains is no assertion (did you mean contains?)"),
        ("CONTAINS: Paris", "did you mean contains?"),
        ("Is-Json", "did you mean is-json?"),
        ("not-contian:x", "did you mean contains?"),
        ("assert-set:x", "assert-set is no assertion"),
        ("foo:bar", "foo is no assertion"),
        ("blue(0.4):x", "did you mean bleu?"),
        ("similar(abc):x", "'abc' is no number"),
        ("similar(-1):x", "'-1' is no number"),
        ("levenshtein:x", "levenshtein needs its number: write `levenshtein(5):text`"),
        ("latency:500", "latency needs its number: write `latency(500)`"),
        ("cost:0.01", "write `cost(0.01)`"),
        ("cost(0.01):0.5", "the number of cost stands in brackets"),
        ("contains(0.5):x", "the number of contains would be dropped; put 0.5 into a column `__config:__expected:thr"),
        ("bleu(0.4):x", "the number of bleu would be dropped"),
        ("g-eval(0.7):x", "the number of g-eval would be dropped"),
        ("tool-call-f1(0.5):x", "the number of tool-call-f1 would be dropped"),
        ("similar:cosine(0.5):x", "cosine is not read in a cell"),
        ('contains-any:"a', "a double quote in `value` is not closed"),
    ],
)
def test_csv_cell__that_would_change_its_meaning_is_refused_with_its_row(cell: str, said: str) -> None:
    with pytest.raises(InvalidCell) as caught:
        read_cell(cell)
    assert said in caught.value.message

    quoted = '"' + cell.replace('"', '""') + '"'
    assert refusal(f"q,__expected\nok,\nx,{quoted}\n").startswith("t.csv, line 3: row 3.__expected: ")


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        ("Answer: 42", {"type": "equals", "value": "Answer: 42"}),
        ("https://example.org/x", {"type": "equals", "value": "https://example.org/x"}),
        ("12:30", {"type": "equals", "value": "12:30"}),
        ("yes", {"type": "equals", "value": "yes"}),
        ("sum(1)", {"type": "equals", "value": "sum(1)"}),
        ("f(x) = 2", {"type": "equals", "value": "f(x) = 2"}),
        ("  a b \n", {"type": "equals", "value": "a b"}),
        ("equals:contain:x", {"type": "equals", "value": "contain:x"}),
        ("latency(500)", {"type": "latency", "threshold": 500.0}),
        ("similar:x", {"type": "similar", "value": "x", "threshold": 0.8}),
        ("not-rouge-n:x", {"type": "not-rouge-n", "value": "x", "threshold": 0.75}),
        ("starts-with:x", {"type": "starts-with", "value": "x"}),
        ('not-icontains-all: a ,"b,c",', {"type": "not-icontains-all", "value": ["a", "b,c"]}),
        ("is-json", {"type": "is-json"}),
        ("not-is-json: {}", {"type": "not-is-json", "value": " {}"}),
        ("grade: Is kind ", {"type": "llm-rubric", "value": " Is kind"}),
        ("llm-rubric:Is kind", {"type": "llm-rubric", "value": "Is kind"}),
        ("contains: Paris", {"type": "contains", "value": "Paris"}),
        ('is-json:{"type": "object"}', {"type": "is-json", "value": '{"type": "object"}'}),
        ("file://check.py:f", {"type": "python", "value": "file://check.py:f"}),
    ],
)
def test_csv_cell__means_an_assertion(cell: str, read: dict[str, Any]) -> None:
    assert read_cell(cell) == read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.csv, line 1: is empty; its first row must name the columns"),
        ("q,,x\n1,2,3\n", "row 1: column 2 has no name"),
        ("q,x,q\n1,2,3\n", "row 1: the column q stands twice"),
        ("q,__expcted\n1,2\n", "row 1: the column __expcted is not known; known are __expected, __expected1"),
        ("q,__providerOutput\n1,2\n", "answers come from models here"),
        ("q,__config:__expected:weight\n1,2\n", "`threshold` is the one key"),
        ("q,x\n1,2,3\n", "t.csv, line 2: row 2: has 3 cells, but there are 2 columns"),
        ("q,x\n1\n", "row 2: has 1 cells, but there are 2 columns"),
        ("q,__threshold\n1,high\n", "row 2.__threshold: high is not a number of at least 0"),
        ("q,__threshold\n1,nan\n", "nan is not a number"),
        (
            "q,__expected,__config:__expected2:threshold\n1,a,2\n",
            "row 2.__config:__expected2:threshold: there is nothing",
        ),
        ('q,x\n"1,2\n', "not CSV: unexpected end of data"),
        ('q,x\n"1"2,3\n', "not CSV:"),
        (b"q\n\xff\n", "not UTF-8 text"),
        ("q\n\0\n", "holds a NUL character"),
        ("q\n" + "x" * 140_000, "not CSV: field larger than field limit"),
        (",".join(f"c{i}" for i in range(201)) + "\n", "has 201 columns; 200 are the most"),
        ("q\n" + "x\n" * 2_001, "has more than 2,000 rows"),
        ("q,__expected\nx,regex:(\n", "t.csv, line 2: row 2.assert[0]: regex: the pattern '(' is not valid"),
    ],
)
def test_csv__that_cannot_be_used_says_row_and_line(text: str | bytes, said: str) -> None:
    assert said in refusal(text)
