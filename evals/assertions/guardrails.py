"""`guardrails`: the provider's own safety checks found nothing."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import quoted, refuse_settings
from evals.types import Assertion, Guardrails

# What OpenAI-compatible providers say when a filter cut the answer off:
# https://platform.openai.com/docs/api-reference/chat/object#chat-object-choices
_FILTERED = "content_filter"


@assertion("guardrails", check=refuse_settings)
def guardrails(answer: Answer, spec: Assertion) -> Judgement:
    """The provider's safety checks did not flag the prompt or the answer; without such checks nothing is flagged."""
    refuse_settings(spec)
    reported = _reported(answer)
    return Judgement(passed=not reported.flagged, score=float(not reported.flagged), reason=_reason(reported))


def _reported(answer: Answer) -> Guardrails:
    if answer.completion is None:
        return Guardrails()
    if answer.completion.guardrails is not None:
        return answer.completion.guardrails
    return Guardrails(flagged=answer.completion.finish_reason == _FILTERED, flagged_output=True)


def _reason(reported: Guardrails) -> str:
    if not reported.flagged:
        return "the provider's safety checks flagged nothing"
    what = "prompt" if reported.flagged_input else "answer"
    why = f": {quoted(reported.reason)}" if reported.reason else ""
    return f"the provider's safety checks flagged the {what}{why}"
