"""expressions of rules → true or false: CEL, by the library of its makers.

It bounds what it does: 32 levels of an expression, 10 000 steps of a loop. Its regular expressions
are RE2's, whose time is linear in the text.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cel_expr_python import cel

from models.policy_expressions import BadExpression, ExpressionFailed, Undetermined
from models.policy_names import Kind

_KINDS: Mapping[Kind, cel.Type] = {
    "number": cel.Type.DOUBLE,
    "integer": cel.Type.INT,
    "string": cel.Type.STRING,
    "bool": cel.Type.BOOL,
    "timestamp": cel.Type.TIMESTAMP,
}
_MESSAGE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")
_ABSENT = "No value with name"
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")


class CelCompiler:
    """Compiles against declared names; a `policy_expressions.Compiler`."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        """Declare the names that expressions may read."""
        self._env = cel.NewEnv(variables={name: _KINDS[kind] for name, kind in kinds.items()})

    def compile(self, when: str) -> "CelTest":
        """Compile one expression; see the port."""
        try:
            expression = self._env.compile(when)
        except RuntimeError as error:
            raise _explained(str(error)) from error
        if expression.return_type() != cel.Type.BOOL:
            kind = expression.return_type().name()
            raise BadExpression(f"expected true or false, this is {kind.lower()}")
        return CelTest(expression)

    def compile_together(self, whens: Sequence[str]) -> "CelTests":
        """Compile several to be evaluated in one call; see the port."""
        listed = ", ".join(f"({when}\n)" for when in whens)  # a line may end in a comment
        try:
            return CelTests(self._env.compile(f"[{listed}]"))
        except RuntimeError as error:
            raise _explained(str(error)) from error

    def bind(self, values: Mapping[str, Any]) -> Any:
        """Make the values of one event readable; see the port."""
        return self._env.Activation(values)


class CelTest:
    """One compiled expression."""

    def __init__(self, expression: Any) -> None:
        """Hold it."""
        self._expression = expression

    def test(self, bound: Any) -> bool:
        """Evaluate; see the port."""
        value = _evaluate(self._expression, bound)
        if value.type() == cel.Type.ERROR:
            raise _failure(str(value.value()))
        return bool(value.value())


class CelTests:
    """Several compiled expressions."""

    def __init__(self, expression: Any) -> None:
        """Hold them."""
        self._expression = expression

    def test_all(self, bound: Any) -> list[bool]:
        """Evaluate all; see the port."""
        value = _evaluate(self._expression, bound)
        if value.type() == cel.Type.ERROR:
            raise _failure(str(value.value()))
        return list(value.plain_value())


def _evaluate(expression: Any, bound: Any) -> Any:
    try:
        return expression.eval(bound)
    except RuntimeError as error:  # its budget of steps, not a value of the expression
        raise ExpressionFailed(_STATUS.sub("", str(error))) from error


def _failure(text: str) -> ExpressionFailed:
    return (Undetermined if _ABSENT in text else ExpressionFailed)(_STATUS.sub("", text))


def _explained(text: str) -> BadExpression:
    """Turn the library's lines into one sentence: the column, and what is wrong there."""
    found = _MESSAGE.search(text)
    if found is None:
        return BadExpression(_STATUS.sub("", text.splitlines()[0]))
    line, column, what = found.groups()
    if int(column) < 0:
        return BadExpression(what)
    place = f"column {int(column)}" if line == "1" else f"line {line}, column {int(column)}"
    hint = ""
    if "'(double, int)'" in what or "'(int, double)'" in what:
        hint = " (features and scores are numbers with a point: write 5.0; amounts are integers)"
    return BadExpression(f"{place}: {what}{hint}")
