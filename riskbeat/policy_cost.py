"""rules → microseconds: what each costs when it is evaluated by itself, held against its budget."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from models.policy import PolicyError
from models.policy_expressions import ExpressionFailed
from models.policy_names import Kind
from models.policy_ruling import Rulebook

RULE_BUDGET_US: Final = 50.0
"""CPU time of one rule by itself; a comparison takes 3 to 5."""
RUNS: Final = 5
CALLS: Final = 200
SAMPLES: Mapping[Kind, Any] = {
    "number": 1.0,
    "integer": 1,
    "string": "x" * 256,  # as long as an event's texts can be
    "bool": True,
    "timestamp": datetime(2026, 3, 1, 12, tzinfo=UTC),
}


def rule_costs(book: Rulebook) -> dict[str, float]:
    """Return rule → CPU microseconds, the least of some runs: neighbours disturb, never help."""
    rules = book.rules
    bound = rules.values_of({name: SAMPLES[kind] for name, kind in rules.kinds.items()})
    costs: dict[str, float] = {}
    for place, test in rules.tests.items():
        costs[book.policy.rules[place].id] = min(_cost_us(test, bound) for _ in range(RUNS))
    return costs


def check_costs(book: Rulebook, name: str) -> dict[str, float]:
    """Return what the rules cost.

    Raises:
        PolicyError: One is over its budget; names it.
    """
    costs = rule_costs(book)
    for rule, cost_us in costs.items():
        if cost_us > RULE_BUDGET_US:
            raise PolicyError(
                f"{name}: rule {rule} takes {cost_us:.0f} µs; its budget is {RULE_BUDGET_US:.0f}"
            )
    return costs


def _cost_us(test: Any, bound: Any) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        try:
            test.test(bound)
        except ExpressionFailed:
            continue
    return (time.process_time() - began) / CALLS * 1e6
