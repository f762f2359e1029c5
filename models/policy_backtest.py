"""past decisions, a policy → how many would have had another outcome, before it is applied."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import msgspec
import numpy as np

from features.spec import Spec
from models.decision import DecisionRecord, Outcome
from models.decision_codec import decode_vector
from models.policy_list_copy import ListCopy
from models.policy_ruling import Rulebook, Ruler, Scored


@dataclass(slots=True)
class Outlook:
    """What a policy would have made of past decisions.

    Attributes:
        decisions: Ruled again.
        moves: (outcome then, outcome by the policy) → decisions; what chance let through stands
            with the outcome that it would have had.
        rules: Rule → state → decisions.
        other_spec: Decisions of another feature spec, left out: its rules read other features.
    """

    decisions: int = 0
    moves: Counter[tuple[Outcome, Outcome]] = field(default_factory=Counter)
    rules: dict[str, Counter[str]] = field(default_factory=dict)
    other_spec: int = 0

    @property
    def changed(self) -> int:
        """Decisions with another outcome."""
        return sum(count for (was, now), count in self.moves.items() if was != now)


class Backtest:
    """Rules on recorded decisions again: on their vectors and scores, with lists as they are now.

    Chance lets nothing through here, and no rule is halted.
    """

    def __init__(self, spec: Spec, book: Rulebook, lists: ListCopy) -> None:
        """Take the policy, and the spec that it was compiled for."""
        self._spec = spec
        policy = msgspec.structs.replace(book.policy, pass_through=None)
        self._ruler = Ruler(spec, Rulebook(policy, book.digest, book.rules), limited=False)
        self._ruler.lists = lists
        self.outlook = Outlook(rules={rule.key: Counter() for rule in policy.rules})

    def add(self, records: Sequence[DecisionRecord]) -> None:
        """Rule on further decisions."""
        mine = [record for record in records if record.spec_digest == self._spec.digest]
        self.outlook.other_spec += len(records) - len(mine)
        for (complete, asked), group in groupby(mine, _basis_of):
            self._rule(list(group), complete, asked)

    def _rule(self, records: list[DecisionRecord], complete: bool, asked: bool) -> None:
        X = np.stack([decode_vector(record.vector) for record in records]) if complete else None
        scored = None
        if asked:
            ranks = [record.score.percentile for record in records]
            scored = Scored(
                [record.score.value or 0.0 for record in records],
                [float("nan") if rank is None else rank for rank in ranks],
            )
        events = [record.event for record in records]
        outlook = self.outlook
        now_ms = records[-1].decided_at_ms
        rulings = self._ruler.rule_many(events, X, scored, now_ms)
        for record, ruling in zip(records, rulings, strict=True):
            outlook.decisions += 1
            outlook.moves[record.would_be or record.outcome, ruling.outcome] += 1
            for hit in ruling.rules:
                outlook.rules[f"{hit.id}@{hit.version}"][hit.state] += 1


def _basis_of(record: DecisionRecord) -> tuple[bool, bool]:
    """Return whether a decision had features, and whether it had a score."""
    return "features" not in record.degraded, record.score.value is not None
