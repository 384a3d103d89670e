"""`python -m notifiers KIND OUTCOME.json`: shows what a notifier would send for an outcome, and sends nothing."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from notifiers import NOTIFIERS, Baseline, CannotNotify, InvalidOutcome, Notice, Request, Response, read_outcome
from notifiers._urllib import drive


def main(arguments: list[str] | None = None) -> int:
    """0 when something was shown, 2 when it could not be."""
    chosen = _parser().parse_args(arguments)
    try:
        outcome = read_outcome(Path(chosen.outcome).read_bytes())
        notice = _notice(chosen, outcome)
    except (OSError, InvalidOutcome, ValueError) as error:
        sys.stderr.write(f"❌ {chosen.outcome}: {error}\n")
        return 2
    requests = sent_for(chosen.kind, notice)
    sys.stdout.write(_markdown(requests) if chosen.markdown else _everything(requests))
    return 0


def sent_for(kind: str, notice: Notice) -> list[Request]:
    """The requests that the notifier makes of a platform on which nothing was told yet."""
    entry = NOTIFIERS[kind]
    seen: list[Request] = []

    def pretend(request: Request) -> Response:
        seen.append(request)
        # A list that is empty, or what was made with an id and an author: all that the answers are read for.
        said = json.loads(request.body) if request.body else {}
        made = {"id": 1, "user": {"login": ""}, "author": {"username": ""}, **said}
        return Response(status=200, body=json.dumps([] if request.method == "GET" else made).encode())

    try:
        drive(entry.tell(notice, entry.example), send=pretend)
    except CannotNotify as error:  # a notifier that needs more of an answer still has shown its request
        sys.stderr.write(f"{error.message}\n")
    return seen


def _markdown(requests: list[Request]) -> str:
    """The first text that is rendered as Markdown."""
    bodies = [json.loads(request.body) for request in requests if request.body]
    return next((str(body["body"]) for body in bodies if "body" in body), "")


def _everything(requests: list[Request]) -> str:
    shown = []
    for request in requests:
        shown.append(f"{request.method} {request.url}")
        if request.body:
            shown.append(json.dumps(json.loads(request.body), ensure_ascii=False, indent=2))
    return "\n".join(shown) + "\n"


def _notice(chosen: argparse.Namespace, outcome: Any) -> Notice:
    at = _moment(chosen.at) if chosen.at else datetime.now(timezone.utc)
    baseline = None
    if chosen.baseline:
        made_at = _moment(chosen.baseline_at) if chosen.baseline_at else None
        baseline = Baseline(label=chosen.baseline, made_at=made_at, score=chosen.baseline_score)
    return Notice(
        outcome=outcome,
        package=chosen.package,
        suite=chosen.suite,
        job_id="00000000-0000-0000-0000-000000000000",
        accepted_at=at,
        finished_at=at,
        url=chosen.url,
        ref="#12",
        head_sha="1a2b3c4d" * 5,
        baseline=baseline,
        suite_path=chosen.suite,
    )


def _moment(text: str) -> datetime:
    """Raises ValueError for what is no moment with a zone."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"{text} needs a zone, such as the Z in 2026-01-31T12:00:00Z")
    return moment


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m notifiers", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("kind", choices=list(NOTIFIERS), help="the notifier")
    parser.add_argument("outcome", help="an outcome's JSON, from `prpm test --json` or the API")
    parser.add_argument("--markdown", action="store_true", help="only the comment's text")
    parser.add_argument("--package", default="@author/package", metavar="NAME")
    parser.add_argument("--suite", default="prpm.test.yaml", metavar="PATH")
    parser.add_argument("--url", default="", help="the page of the whole result")
    parser.add_argument("--baseline", default="", metavar="LABEL", help="what the outcome was compared with")
    parser.add_argument("--baseline-score", type=float, metavar="SHARE", help="0 to 1")
    parser.add_argument("--baseline-at", metavar="TIME", help="when the baseline was made: 2026-01-31T12:00:00Z")
    parser.add_argument("--at", metavar="TIME", help="when the job finished; now, unless given")
    return parser


if __name__ == "__main__":
    sys.exit(main())
