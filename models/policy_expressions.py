"""The port behind which rules are compiled and evaluated, and what can be wrong with one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from models.policy_names import Kind


class BadExpression(ValueError):
    """An expression does not compile, or is none that a rule may have."""


class ExpressionFailed(ArithmeticError):
    """An expression has no value for this event: it divides by zero, or a number overflows."""


class Undetermined(ExpressionFailed):
    """What an expression needs is missing."""


class Test(Protocol):
    """One compiled expression."""

    def test(self, bound: Any) -> bool:
        """Evaluate for values that `bind` returned.

        Raises:
            Undetermined: It depends on a value that was not bound.
            ExpressionFailed: It has no value.
        """


class Tests(Protocol):
    """Several compiled expressions."""

    def test_all(self, bound: Any) -> list[bool]:
        """Evaluate all for values that `bind` returned.

        Raises:
            ExpressionFailed: One of them has no value.
        """


class Compiler(Protocol):
    """Whose language the expressions are in. Implementation: `policy_cel.CelCompiler`."""

    def compile(self, when: str) -> Test:
        """Compile an expression.

        Raises:
            BadExpression: It is none, or neither true nor false.
        """

    def compile_together(self, whens: Sequence[str]) -> Tests:
        """Compile several that compile one by one.

        Raises:
            BadExpression: Together they are too much.
        """

    def bind(self, values: Mapping[str, Any]) -> Any:
        """Make values readable by name."""


CompilerOf = Callable[[Mapping[str, Kind]], Compiler]


class RuleFault(ValueError):
    """A rule cannot be meant; names its place in the policy.

    Attributes:
        path: As in `rules[3].when`.
        fault: One sentence.
    """

    def __init__(self, path: str, fault: str) -> None:
        """Name the place and the fault."""
        super().__init__(f"{path}: {fault}")
        self.path = path
        self.fault = fault
