"""Start everything in one command: PostgreSQL, Valkey, API and a worker, with a demo account."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

import click

from server.operator.stack import Ready, Stack, StackOptions, default_data_dir

CHECK_SECONDS = 0.2
Result = TypeVar("Result")


class StopRequested(BaseException):
    """Ctrl-C, SIGTERM or a closed terminal. No Exception: nothing on the way may swallow it."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Where the API listens; 0 takes a free port.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where all data is kept.  [env: PRPM_DATA_DIR]")
@click.option("--json", "as_json", is_flag=True, help="When ready, print one line of JSON: url and token.")
@click.option("--public-url", help="The address that links carry, when a proxy stands in front.")
def command(*, port: int, data_dir: Path | None, as_json: bool, public_url: str | None) -> None:
    """Start the whole service and keep it running until Ctrl-C.

    Without PRPM_DATABASE_URL and PRPM_REDIS_URL it brings its own PostgreSQL and Valkey.
    """
    options = stack_options(port=port, data_dir=data_dir, public_url=public_url)

    def announce_and_watch(stack: Stack, ready: Ready) -> None:
        print(as_line(ready) if as_json else welcome(ready, data_dir=options.data_dir), flush=True)
        watch(stack)

    with_stack(options, announce_and_watch)


def as_line(ready: Ready) -> str:
    """For programs: url, and token where there is one."""
    return json.dumps({"url": ready.url} | ({"token": ready.token} if ready.token else {}))


def stack_options(*, port: int, data_dir: Path | None, public_url: str | None) -> StackOptions:
    """The options with the environment's defaults filled in."""
    return StackOptions(
        data_dir=(data_dir or default_data_dir(os.environ)).absolute(),
        environ=dict(os.environ),
        port=port,
        host=os.environ.get("PRPM_HOST", "").strip() or "127.0.0.1",
        public_url=public_url.rstrip("/") if public_url else None,
    )


def with_stack(options: StackOptions, use: Callable[[Stack, Ready], Result]) -> Result | None:
    """What `use` returns on a stack that is ready; the stack is gone afterwards.

    None when a stop was requested, be it during the start.
    """
    stack = Stack(options, say=tell)
    with stop_requests(), contextlib.suppress(StopRequested):
        try:
            return use(stack, stack.start())
        finally:
            ignore_stop_requests()
            stack.stop()
    return None


@contextlib.contextmanager
def stop_requests() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise StopRequested, once; afterwards the handlers are as before."""

    def request(number: int, frame: FrameType | None) -> None:
        ignore_stop_requests()
        raise StopRequested

    before = {number: signal.signal(number, request) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ignore_stop_requests() -> None:
    """A second Ctrl-C must not interrupt the clean stop, which is short anyway."""
    for number in STOP_SIGNALS:
        # A handler, not SIG_IGN, which the children would inherit.
        signal.signal(number, lambda number, frame: None)


def watch(stack: Stack) -> NoReturn:
    """Ends by StopRequested, or by an OperatorError when a child dies."""
    while True:
        stack.check()
        time.sleep(CHECK_SECONDS)


def tell(sentence: str) -> None:
    """Talk goes to stderr; stdout is for results."""
    print(sentence, file=sys.stderr, flush=True)


def welcome(ready: Ready, *, data_dir: Path) -> str:
    """What a person wants to know now."""
    lines = ["", f"✅ Ready: {ready.url}", f"   {ready.model.sentence}", f"   Data and logs: {data_dir}"]
    if ready.token:
        lines += [
            f"   Token (also in {data_dir / 'token'}): {ready.token}", "",
            "Try, in another terminal:", "",
            f"  export PRPM_REGISTRY_URL={ready.url} PRPM_TOKEN={ready.token}",
            "  prpm test @demo/hello", "  prpm models", "  prpm usage",
        ]  # fmt: skip
    else:
        lines += ["", "Make an account and a token:", ""]
        lines += ["  prpm-testing account create NAME", "  prpm-testing token create NAME"]
    return "\n".join([*lines, "", "Ctrl-C stops everything."])
