"""Claude skills, agents and slash commands, run by the Claude Agent SDK in a sandbox, on any server that speaks
Anthropic's Messages API.

Its deployments stand in a model's `deployments` beside others; requests with an `agent` go to them, and only those.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.agents.plugins import changed
from evals.agents.relay import Relay
from evals.agents.sandbox import Ended, SandboxExceeded, run_agent, why_no_agents
from evals.agents.tasks import AgentTask
from evals.errors import ProviderError
from evals.models import CompletionRequest, Deployment, backend
from evals.types import Completion

if TYPE_CHECKING:
    from aiohttp import ClientSession

log = logging.getLogger(__name__)

_MOST_SHOWN = 200
_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


@backend("claude_agent")
class ClaudeAgent:
    """One trial is one sandbox and one relay; the key stays in this process."""

    runs_agents = True

    def __init__(self) -> None:
        self._session: ClientSession | None = None

    async def prepare(self) -> None:
        """Open the session. Safe to call twice."""
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # limits are the pool's
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
                trust_env=False,
            )

    async def complete(self, request: CompletionRequest, deployment: Deployment) -> Completion:
        """One question to the agent, with all the calls that it makes. Raises ProviderError, CapReached, PluginChanged.

        What it said when it was stopped by a cap of its own is its answer, with the cap as `finish_reason`.
        """
        task = request.agent
        if task is None:
            raise ProviderError(f"{deployment.id} runs agents, and answers nothing else.", retryable=False)
        if why := why_no_agents():
            raise ProviderError(f"{deployment.id} cannot run agents: {why}.", retryable=False)
        await self.prepare()
        assert self._session is not None  # noqa: S101 - for the type checker: prepare() has set it
        relay = Relay(task, request, deployment, session=self._session)
        ended = await _run(task, request, deployment, relay)
        _log_refusals(relay)
        return _completion(relay, ended, deployment)

    async def aclose(self) -> None:
        """Close the session. Safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def _run(task: AgentTask, request: CompletionRequest, deployment: Deployment, relay: Relay) -> Ended:
    # A name of its own, as the path of a socket must be short; nobody else may look into the folder.
    with tempfile.TemporaryDirectory(prefix="prpm-agent-", ignore_cleanup_errors=True) as folder:
        socket = Path(folder, "relay.sock")
        runner = await relay.open(socket)
        try:
            async with asyncio.timeout(min(request.timeout_seconds, task.limits.seconds)):
                return await run_agent(
                    task,
                    prompt=prompt_of(task, request),
                    model=deployment.model,
                    max_tokens=request.max_tokens,
                    relay=socket,
                )
        except TimeoutError:
            seconds = min(request.timeout_seconds, task.limits.seconds)
            raise ProviderError(
                f"{deployment.id} did not come to an end within {seconds:g} s.", retryable=False, timed_out=True
            ) from None
        except SandboxExceeded as error:
            raise ProviderError(f"{deployment.id}: {error.message}", retryable=False) from None
        finally:
            await runner.cleanup()


def prompt_of(task: AgentTask, request: CompletionRequest) -> str:
    """What the user says; a slash command is called with it."""
    said = request.messages[-1].content
    if task.kind == "slash-command":
        return f"/{task.name} {said}".rstrip()
    # What begins with a slash is a command to Claude Code; a case of a skill or agent means it as text.
    return f" {said}" if said.startswith("/") else said


def _completion(relay: Relay, ended: Ended, deployment: Deployment) -> Completion:
    """The answer. Raises what was in its way."""
    if ended.ended == "plugin_changed":
        raise changed(ended.plugin[:_MOST_SHOWN], ended.detail[:_MOST_SHOWN])
    if ended.ended == "plugin_away":
        raise ProviderError(f"{deployment.id}: the plugin {ended.plugin[:60]} does not start.", retryable=True)
    if relay.trouble is not None:
        raise relay.trouble
    cap = relay.cap or ("turns" if ended.ended == "error_max_turns" else None)
    transcript = relay.transcript
    if not transcript.answers and relay.refused_requests:
        raise ProviderError(
            f"{deployment.id}: the package asked for another model, or in a way that is not allowed.", retryable=False
        )
    if not transcript.answers or (ended.is_error and cap is None):
        raise ProviderError(
            f"{deployment.id}: the agent ended without an answer ({ended.ended[:60]}).",
            retryable=not transcript.answers,
        )
    last = transcript.answers[-1]
    counted = [said for said in transcript.answers if said.input_tokens is not None and said.output_tokens is not None]
    is_counted = len(counted) == len(transcript.answers)
    return Completion(
        text=transcript.text,
        answered_by=last.model or deployment.model,
        finish_reason=f"cap:{cap}" if cap else _reason(last.stop_reason),
        input_tokens=sum(said.input_tokens or 0 for said in counted) if is_counted else None,
        output_tokens=sum(said.output_tokens or 0 for said in counted) if is_counted else None,
        tool_calls=transcript.calls(),
        tools=transcript.tools(),
        turns=len(transcript.answers),
    )


def _reason(stop_reason: str | None) -> str | None:
    """In the words that `finish-reason` asserts for every provider."""
    return _REASONS.get(stop_reason, stop_reason) if stop_reason is not None else None


def _log_refusals(relay: Relay) -> None:
    """Counts only: names and arguments are the model's words."""
    tools = sum(call.refused for call in relay.transcript.calls())
    if tools or relay.refused_requests or relay.refused_plugin_calls:
        fields: dict[str, Any] = {
            "tools": tools,
            "requests": relay.refused_requests,
            "plugin_calls": relay.refused_plugin_calls,
        }
        log.warning("agent refused", extra=fields)
