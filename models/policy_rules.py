"""Policy, feature spec → RuleSet: its rules, checked and compiled, and which ones an event meets.

A value that an event does not have makes what reads it undetermined, as NULL does in SQL: false
and undetermined is false, true or undetermined is true, and a rule hits only where it is true.
Rules are evaluated many in one call, and one by one only where that cannot tell.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.event import Event
from features.spec import Spec
from models.policy_check import is_strict, names_of
from models.policy_expressions import (
    BadExpression,
    CompilerOf,
    ExpressionFailed,
    RuleFault,
    Test,
    Tests,
    Undetermined,
)
from models.policy_names import (
    KNOWN,
    PERCENTILE,
    PLACEHOLDERS,
    PROBABILITY,
    Vocabulary,
)
from models.policy_values import Policy, Rule

TOGETHER_MAX = 16
"""Rules of one call: one that fails makes so many be evaluated one by one."""


class Verdict(NamedTuple):
    """A rule (its place in the policy) that holds for an event, or failed on it."""

    place: int
    state: Literal["hit", "error"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A rule that can be evaluated.

    Attributes:
        needs: Names without whose values something in it is undetermined.
        strict: Without them it cannot be true.
    """

    place: int
    test: Test
    needs: frozenset[str]
    strict: bool


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Rules that are evaluated in one call; `together` is None where only one by one works."""

    rules: tuple[_Compiled, ...]
    needs: frozenset[str]
    together: Tests | None


class _Selection(NamedTuple):
    """What the events of one type and tenant are looked at by.

    Attributes:
        features: (name, place in what `rows_of` returns) that they read.
        others: (name, getter) that they read of the event.
        known: (`known.NAME`, NAME) that they ask for.
    """

    chunks: tuple[_Chunk, ...]
    features: tuple[tuple[str, int], ...]
    others: tuple[tuple[str, Callable[[Event], Any]], ...]
    known: tuple[tuple[str, str], ...]


class RuleSet:
    """The rules of a policy that are not disabled, compiled once.

    Attributes:
        kinds: Names that they read → kind.
        tests: Each rule by itself, disabled ones too.
    """

    def __init__(self, policy: Policy, spec: Spec, compiler_of: CompilerOf) -> None:
        """Check and compile.

        Args:
            policy: Whose rules.
            spec: Declares features, entities and event types.
            compiler_of: Names and their kinds → a compiler.

        Raises:
            RuleFault: A rule names what there is not, or is no expression.
        """
        self._vocabulary = Vocabulary(spec, policy.attributes)
        self._rules = policy.rules
        live = [(i, rule) for i, rule in enumerate(policy.rules) if rule.enabled]
        named = {
            i: names_of(i, rule, spec, self._vocabulary) for i, rule in enumerate(policy.rules)
        }
        read = frozenset[str]().union(*named.values())
        kinds = {name: self._vocabulary.kinds[name] for name in sorted(read)}
        self.kinds = kinds
        needed = sorted({name.removeprefix(KNOWN) for name in read})
        columns = self._vocabulary.columns
        self._place = {name: i for i, name in enumerate(n for n in needed if n in columns)}
        self._columns = np.array([columns[name] for name in self._place], np.int64)
        self._compiler = compiler_of(kinds)
        compiled = {i: self._compile(i, rule, named[i]) for i, rule in enumerate(policy.rules)}
        self._groups: dict[tuple[Any, Any], list[_Chunk]] = {}
        together: dict[tuple[Any, Any], list[_Compiled]] = {}
        for i, rule in live:
            together.setdefault((_set(rule.event_types), _set(rule.tenants)), []).append(
                compiled[i]
            )
        for audience, rules in together.items():
            parts = [rules[at : at + TOGETHER_MAX] for at in range(0, len(rules), TOGETHER_MAX)]
            self._groups[audience] = [self._chunk(part) for part in parts]
        self._tenants = {tenant for _, rule in live for tenant in rule.tenants or ()}
        self._selections: dict[tuple[str, str], _Selection] = {}
        self.tests = {i: one.test for i, one in compiled.items()}

    @property
    def looks(self) -> bool:
        """Whether there is any rule to be evaluated."""
        return bool(self._groups)

    def rows_of(self, X: NDArray[np.float32]) -> list[list[float]]:
        """Return of each vector what rules read of it, as `verdicts` takes it."""
        rows: list[list[float]] = X[:, self._columns].tolist()
        return rows

    def _select(self, event_type: str, tenant: str) -> _Selection:
        who = (event_type, tenant if tenant in self._tenants else "")
        selection = self._selections.get(who)
        if selection is None:  # as many as the spec's event types and the policy's tenants
            selection = self._selections[who] = self._selection(*who)
        return selection

    def verdicts(
        self,
        event: Event,
        x: Sequence[float] | None,
        probability: float | None,
        percentile: float | None,
    ) -> list[Verdict]:
        """Return the rules that an event meets, and those that fail on it, in the policy's order.

        Args:
            event: The event.
            x: Of its vector what `rows_of` returned; None where all features are missing.
            probability: By the model; None without.
            percentile: By the model; None or NaN without.
        """
        selection = self._select(event.event_type, event.tenant)
        if not selection.chunks:
            return []
        values, missing = self._read(selection, event, x, probability, percentile)
        placed = values
        if missing:
            kinds = self.kinds
            placed = values | {n: PLACEHOLDERS[kinds[n]] for n in missing if n in kinds}
        bound = self._compiler.bind(placed)
        found: list[Verdict] = []
        alone: list[_Compiled] = []
        unsure: set[int] = set()  # their part of a common answer is not looked at
        for chunk in selection.chunks:
            if missing and not chunk.needs.isdisjoint(missing):
                tainted = [rule for rule in chunk.rules if not rule.needs.isdisjoint(missing)]
                alone += [rule for rule in tainted if not rule.strict]
                unsure.update(rule.place for rule in tainted)
                if len(tainted) == len(chunk.rules):
                    continue
            held = _test_all(chunk, bound)
            if held is None:
                alone += [rule for rule in chunk.rules if rule.place not in unsure]
            elif True in held:
                found += [
                    Verdict(rule.place, "hit")
                    for rule, holds in zip(chunk.rules, held, strict=True)
                    if holds and rule.place not in unsure
                ]
        if alone:
            exact = self._compiler.bind(values) if missing else bound
            found += [v for rule in alone if (v := _test_one(rule, exact)) is not None]
        return sorted(found) if len(found) > 1 else found

    def values_of(self, names: Mapping[str, Any]) -> Any:
        """Return values as expressions read them, with placeholders for all others."""
        placed = {name: PLACEHOLDERS[kind] for name, kind in self.kinds.items()}
        return self._compiler.bind(placed | dict(names))

    def _read(
        self,
        selection: _Selection,
        event: Event,
        x: Sequence[float] | None,
        probability: float | None,
        percentile: float | None,
    ) -> tuple[dict[str, Any], set[str]]:
        """Return the values that rules read, and the names of those that are missing."""
        values: dict[str, Any] = {}
        missing: set[str] = set()
        for name, column in selection.features:
            value = x[column] if x is not None else None
            if value is None or math.isnan(value):
                missing.add(name)
            else:
                values[name] = value
        for name, getter in selection.others:
            if name == PROBABILITY:
                value = probability
            elif name == PERCENTILE:
                value = None if percentile is None or math.isnan(percentile) else percentile
            else:
                value = getter(event)
            if value is None:
                missing.add(name)
            else:
                values[name] = value
        for known, name in selection.known:
            values[known] = name not in missing
            if name not in self.kinds:
                values.pop(name, None)
        return values, missing

    def _compile(self, index: int, rule: Rule, names: frozenset[str]) -> _Compiled:
        try:
            test = self._compiler.compile(rule.when)
        except BadExpression as error:
            raise RuleFault(f"rules[{index}].when", str(error)) from error
        needs = frozenset(name for name in names if not name.startswith(KNOWN))
        return _Compiled(index, test, needs, is_strict(rule.when))

    def _chunk(self, rules: Sequence[_Compiled]) -> _Chunk:
        needs = frozenset[str]().union(*(rule.needs for rule in rules))
        together: Tests | None = None
        with contextlib.suppress(BadExpression):  # one so deep that it only compiles by itself
            together = self._compiler.compile_together([self._rules[r.place].when for r in rules])
        return _Chunk(tuple(rules), needs, together)

    def _selection(self, event_type: str, tenant: str) -> _Selection:
        chunks = [
            chunk
            for (types, tenants), group in self._groups.items()
            if (types is None or event_type in types) and (tenants is None or tenant in tenants)
            for chunk in group
        ]
        rules = [rule for chunk in chunks for rule in chunk.rules]
        asked = [self._vocabulary.names_in(self._rules[rule.place].when).names for rule in rules]
        read = frozenset[str]().union(*asked)
        known = [
            (name, name.removeprefix(KNOWN)) for name in sorted(read) if name.startswith(KNOWN)
        ]
        needed = {name for name in read if not name.startswith(KNOWN)} | {n for _, n in known}
        place, getters = self._place, self._vocabulary.getters
        return _Selection(
            tuple(chunks),
            tuple((name, place[name]) for name in sorted(needed) if name in place),
            tuple((n, getters.get(n, lambda _: None)) for n in sorted(needed) if n not in place),
            tuple(known),
        )


def _set(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _test_all(chunk: _Chunk, bound: Any) -> list[bool] | None:
    """Return which rules hold; None where only one by one can tell."""
    if chunk.together is None:
        return None
    try:
        return chunk.together.test_all(bound)
    except ExpressionFailed:
        return None


def _test_one(rule: _Compiled, bound: Any) -> Verdict | None:
    try:
        return Verdict(rule.place, "hit") if rule.test.test(bound) else None
    except Undetermined:
        return None
    except ExpressionFailed as error:
        return Verdict(rule.place, "error", str(error))
