"""contains-json, XML, HTML and SQL: what recorded verdicts leave open, and hostile texts."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from msgspec import UNSET

from evals.assertions import ASSERTIONS, Answer, Judgement
from evals.errors import CannotJudge, InvalidAssertion
from evals.types import Assertion


def judged(type_: str, text: str, value: Any = UNSET) -> Judgement:
    return ASSERTIONS[type_].judge(Answer(text=text), Assertion(type=type_, value=value))


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ('{"a": "}"} {', True),
        ('{"a": {"b": [1, "{"]}}', True),
        ('{ broken {"a": 1} }', True),
        ('{"a": 1, "a": {"b": 2}', True),  # the inner one is whole
        ("{\n\t}", True),
        ("{{name}}", False),
        ("set {1, 2, 3}", False),
        ("{'a': 1}", False),
        ('{"a": 1,}', False),
        ('{"a": NaN}', False),
        ('{"a": 1', False),
        ('[1, {"a": 1}]', True),
        ("[1, 2]", False),
    ],
)
def test_contains_json__only_a_whole_object_counts(text: str, passed: bool) -> None:
    assert judged("contains-json", text).passed is passed


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ('{"b": 1} then {"a": 1}', True),
        ('{"b": {"a": 1}}', False),  # what stands in a whole object is not looked at
        ('{"b": 1', False),
        ("no object", False),
    ],
)
def test_contains_json__one_object_conforms(text: str, passed: bool) -> None:
    assert judged("contains-json", text, {"required": ["a"]}).passed is passed


def test_contains_json__I14_braces_without_end_are_an_error_and_never_a_hang() -> None:
    with pytest.raises(CannotJudge, match="takes too long to be read"):
        judged("contains-json", '{"a":' * 300_000)


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;">]><a>&y;</a>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "it declares entities"),
        (OUTSIDE, "it declares entities"),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a>&x;</a>', "the entity 'x' is not known"),
        ("<p:a/>", "unbound prefix"),
        ("<a>\ud800</a>", "half of a surrogate pair"),
        ("<a>\0</a>", "not well-formed"),
        ("", "no element found"),
        ("<?xml version='1.0' encoding='utf-16'?><a>", "no element found"),
    ],
)
def test_is_xml__I10_text_that_is_no_plain_document_fails(text: str, reason: str) -> None:
    judgement = judged("is-xml", text)

    assert not judgement.passed
    assert reason in judgement.reason


@pytest.mark.parametrize(
    "text",
    [
        '<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>',  # the text is decoded already
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a/>',  # nothing is fetched
        '<p:a xmlns:p="u"><p:b/></p:a>',
        "\ufeff\n <a/>",
        "<a>" * 10_000 + "</a>" * 10_000,
    ],
)
def test_is_xml__document_passes(text: str) -> None:
    assert judged("is-xml", text).passed


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        ("a", True),
        ("a.b", True),
        ("a.b.c", True),  # one of the two has it
        ("a.b.0.c", False),
        ("a.b.1.c", True),
        ("a.b.2", False),
        ("a.d.0", False),  # there is one alone
        ("a . b", False),
        (" a.b , a.d ", True),
        ("p:x", False),
        ("a.p:x", True),
        (["a.b", "a.z"], False),
        ([], True),
        ({"requiredElements": ["a.d"]}, True),
        (None, True),
    ],
)
@pytest.mark.parametrize("type_", ["is-xml", "contains-xml"])
def test_xml__elements_are_found_by_their_paths(type_: str, value: Any, passed: bool) -> None:
    text = '<a xmlns:p="u"><b/><b><c/></b><d/><p:x/></a>'

    assert judged(type_, text, value).passed is passed


@pytest.mark.parametrize("value", ["a..b", ".", 5, True, [1], {"requiredElements": 1}, {"elements": []}, ["a"] * 51])
@pytest.mark.parametrize("type_", ["is-xml", "contains-xml"])
def test_xml__unusable_paths_are_refused(type_: str, value: Any) -> None:
    with pytest.raises(InvalidAssertion, match=rf"^{type_}: "):
        judged(type_, "<a/>", value)


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("<br> one <b>two</b>", True),
        ("<!-- <a/> -->", False),
        ("<![CDATA[<a/>]]>", False),
        ("<!-- never ends <a/>", True),
        ('<a title=">">x</a>', True),
        ('<a title="<b>">', False),
        ("</a></b>", False),
        ("List<String> a; Map<K, V> b;", False),
        ("if a <b and c> d", False),
        ("<1a/>", False),
        ("<a><b></c></a>", False),
        ("<a><b>1</b><c></a>", True),  # the whole b
    ],
)
def test_contains_xml__an_element_that_is_closed(text: str, passed: bool) -> None:
    assert judged("contains-xml", text).passed is passed


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("<ul><li>a<li>b</ul>", True),
        ("<p>one<p>two", True),
        ("<p>one<div>two</div>three", False),
        ("<body>text</body>", True),
        ("<html><body>x</body></html> tail", False),
        ("<br>text", False),
        ("<svg><path d='M0'/></svg>", True),
        ("<svg><path/></svg> text", False),
        ("<script>if (a < b) x('</p>')</script>", True),
        ("<title>a <b> c</title><p>x", True),
        ("<p title='a > b'>x</p>", True),
        ("```html\n<p>x</p>\n```", False),
        ("<foo><bar/></foo>", False),
        ("<foo><p>x</p></foo>", True),
        ("<p", False),
        ("&nbsp;", False),
        ("&nbsp;<p>x</p>&#160;\ufeff", True),
        ("<p>x</p>&amp;", False),
        ("<html><p>x</p>text</html>", False),
        ("<html>text</html>", False),
        ("<html><head>text</head></html>", False),
        ("<html><head><title>x</title></head><body>text</body></html>", True),
    ],
)
def test_is_html__elements_and_no_text_beside_them(text: str, passed: bool) -> None:
    assert judged("is-html", text).passed is passed


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("<p>", True),
        ("mail <a@b.c>", False),
        ("List<String>", False),
        ("<!-- a --> &amp;", False),  # two signs, but no tag
        ('class="x" &nbsp;', False),
        ("use &lt;b&gt; or </b>", True),
        ("1 < 2 && 3 > 2", False),
    ],
)
def test_contains_html__two_signs_and_one_is_a_tag(text: str, passed: bool) -> None:
    assert judged("contains-html", text).passed is passed


@pytest.mark.parametrize("type_", ["is-xml", "contains-xml", "is-html", "contains-html"])
def test_markup__R6_answer_that_is_too_long_is_an_error(type_: str) -> None:
    with pytest.raises(CannotJudge, match="more than 100,000 characters"):
        judged(type_, "<a>" * 70_000)


@pytest.mark.parametrize("type_", ["is-html", "contains-html", "is-refusal", "guardrails"])
def test_assertions_without_a_value__refuse_one(type_: str) -> None:
    with pytest.raises(InvalidAssertion, match="takes no `value`"):
        judged(type_, "x", "p")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT DISTINCT a FROM t",
        "select count(*) from t where a in (select b from u) order by 1 desc limit 3",
        "INSERT INTO t (a) VALUES (1), (2)",
        "REPLACE INTO t VALUES (1)",
        "CALL f(1)",
        "DELETE t FROM t JOIN u ON t.a = u.a",
        "CREATE TABLE t (a INT, PRIMARY KEY (a));",
        "SELECT ((((((((1))))))))",
        "EXPLAIN SELECT 1",
        "SELECT * FROM JSON_TABLE('[]', '$[*]' COLUMNS(a INT PATH '$')) x",
    ],
)
def test_is_sql__a_statement_passes(text: str) -> None:
    assert judged("is-sql", text).passed


@pytest.mark.parametrize(
    "text",
    [
        "Show me the money", "Explain this to me", "Call me later", "Use your head", "Use SELECT 1.",
        "Update me on this", "Delete everything", "Create a function", "Insert here", "With that said", "Drop it",
        "It is 4.", "", ";",
        "SELECT", "SELECT a b FROM t", "SELECT `a FROM t", "SELECT (1", "SELECT 'a", "SELECT 1 2 3", "{}", "<a/>",
    ],
)  # fmt: skip
def test_is_sql__what_is_no_statement_fails(text: str) -> None:
    assert not judged("is-sql", text).passed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SELECT * FROM t", None),
        ("SELECT id FROM t", None),
        ("SELECT x.id FROM t AS x", None),
        ("WITH c AS (SELECT t.id FROM t) SELECT * FROM c", None),
        ("SELECT secret FROM t", "the column select::null::secret"),
        ("SELECT x.secret FROM t AS x", "the column select::t::secret"),
        ("SELECT * FROM u", "the table select::null::u"),
        ("SELECT * FROM other.t", "the table select::other::t"),
        ("SELECT * FROM t WHERE id IN (SELECT id FROM u)", "the table select::null::u"),
        ("SELECT id FROM t; DROP TABLE t", "the table drop::null::t"),
        ("INSERT INTO t (a) SELECT id FROM t", "the column insert::t::a"),
        ("UPDATE t SET id = 1", "the table update::null::t"),
        ("INSERT INTO t VALUES (1)", "the column insert::t::(.*)"),
    ],
)
def test_is_sql__uses_only_what_the_lists_allow(text: str, problem: str | None) -> None:
    value = {
        "allowedTables": ["(SELECT|insert)::null::T"],
        "allowedColumns": ["select::(null|t)::id", r"select::null::\(\.\*\)"],
    }

    judgement = judged("is-sql", text, value)

    assert judgement.passed is (problem is None)
    assert problem is None or f"{problem}, which is not allowed" in judgement.reason


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SELECT a FROM t", None),  # whose column it is goes without saying
        ("SELECT t.a FROM t", None),
        ("SELECT u.a FROM u", "the column select::u::a"),
        ("DELETE FROM t", "the column delete::t::(.*)"),
        ("CREATE TABLE u (b INT)", "the column create::null::b"),
        ("ALTER TABLE t ADD COLUMN b INT", "the column create::null::b"),
    ],
)
def test_is_sql__a_list_of_columns_alone_holds_for_every_kind_of_statement(text: str, problem: str | None) -> None:
    judgement = judged("is-sql", text, {"allowedColumns": ["select::t::a"]})

    assert judgement.passed is (problem is None)
    assert problem is None or f"{problem}, which is not allowed" in judgement.reason


@pytest.mark.parametrize(
    "value",
    [
        "MySQL", [], {"databaseType": "Access"}, {"databaseType": 1}, {"dialect": "mysql"}, {"allowedTables": "t"},
        {"allowedTables": ["("]}, {"allowedTables": [""]}, {"allowedTables": ["x" * 201]}, {"allowedTables": [1]},
        {"allowedTables": ["(?=a)"]}, {"allowedColumns": ["a"] * 101},
    ],
)  # fmt: skip
@pytest.mark.parametrize("type_", ["is-sql", "contains-sql"])
def test_sql__unusable_value_is_refused(type_: str, value: Any) -> None:
    with pytest.raises(InvalidAssertion, match=rf"^{type_}: "):
        judged(type_, "SELECT 1", value)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 5_000,
        "SELECT * FROM t" + " JOIN t" * 30,  # each one more would double the parser's time
        "SELECT " + "NOT " * 2_000 + "1",
        "SELECT 1" + " " * 20_000,
    ],
)
@pytest.mark.parametrize("type_", ["is-sql", "contains-sql"])
def test_sql__R6_text_that_is_too_involved_is_an_error(type_: str, text: str) -> None:
    with pytest.raises(CannotJudge, match=r"too (involved|deeply)|more than"):
        judged(type_, text)


def test_sql__L2_nothing_of_an_answer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    for text in ("SHOW me the secret", "SET a secret", "ALTER the secret"):
        judged("is-sql", text)

    assert caplog.records == []


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("So:\n```sql\nSELECT 1\n```\nand\n```\nnot sql\n```", True),
        ("```SQL\r\nSELECT 1\r\n```", True),
        ("```python\nSELECT 1\n```", False),
        ("  ```sql\n  SELECT 1", False),  # never closed, so the rest of it was cut off
        ("Look: SELECT 1.", False),
        ("SELECT 1", True),
    ],
)
def test_contains_sql__a_fenced_block_or_the_whole_answer(text: str, passed: bool) -> None:
    assert judged("contains-sql", text).passed is passed
