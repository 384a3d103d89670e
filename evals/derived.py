"""Derived metrics: formulas over the named scores of a model, formed after the run.

A name stands for the sum of that metric's scores over the model's rows, `__count` for the number of rows, as in
promptfoo (https://www.promptfoo.dev/docs/configuration/expected-outputs/#creating-derived-metrics), so that
`accuracy / __count` is a mean. A formula is arithmetic and nothing else.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final

from evals.errors import EngineError
from evals.types import DerivedMetric

MAX_FORMULA: Final = 500  # characters
COUNT: Final = "__count"

_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: math.fmod, ast.Pow: math.pow,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs, "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "pow": math.pow, "min": min, "max": max,
    "floor": math.floor, "ceil": math.ceil, "round": round,
}  # fmt: skip


class InvalidFormula(EngineError):
    """The text is no arithmetic; the message says what is not known."""


def check_formula(formula: str) -> None:
    """Raises InvalidFormula unless it is numbers, names, + - * / % ^, brackets and known functions."""
    for node in ast.walk(_parsed(formula)):
        if not isinstance(node, _ALLOWED):
            raise InvalidFormula(_only(f"{type(node).__name__.lower()} is not known"))
        if isinstance(node, ast.Constant) and (isinstance(node.value, bool) or not isinstance(node.value, int | float)):
            raise InvalidFormula(_only("a text is no number"))
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS):
            raise InvalidFormula(_only("that function is not known"))


def derive(metrics: Iterable[DerivedMetric], *, sums: Mapping[str, float], count: int) -> dict[str, float]:
    """The figures that can be formed. One that divides by zero, or whose metric was never scored, is left out."""
    known: dict[str, float] = {**sums, COUNT: float(count)}
    derived: dict[str, float] = {}
    for metric in metrics:
        try:
            value = float(_value(_parsed(metric.formula).body, known))
        except (ArithmeticError, LookupError, ValueError, TypeError):
            continue
        if math.isfinite(value):
            known[metric.name] = derived[metric.name] = value
    return derived


_ALLOWED = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.UnaryOp, ast.BinOp, ast.Call, *_UNARY, *_BINARY,
)  # fmt: skip


@lru_cache(maxsize=256)
def _parsed(formula: str) -> ast.Expression:
    if len(formula) > MAX_FORMULA:
        raise InvalidFormula(f"is longer than {MAX_FORMULA} characters")
    if "**" in formula or "\n" in formula.strip():
        raise InvalidFormula(_only("write ^ for a power, on one line"))
    try:
        return ast.parse(formula.strip().replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InvalidFormula(_only("it cannot be read")) from None


def _value(node: ast.expr, known: Mapping[str, float]) -> float:
    """The number that an expression stands for. Numbers are doubles throughout, so that no power grows."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return known[name]
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_value(operand, known))
        case ast.BinOp(op=op, left=left, right=right):
            return float(_BINARY[type(op)](_value(left, known), _value(right, known)))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return float(_FUNCTIONS[name](*(_value(argument, known) for argument in arguments)))
    raise TypeError(type(node).__name__)


def _only(problem: str) -> str:
    functions = ", ".join(sorted(_FUNCTIONS))
    return f"{problem}; a formula is made of numbers, names of metrics, + - * / % ^, brackets and {functions}"
