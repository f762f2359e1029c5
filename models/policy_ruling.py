"""(events, vectors, scores, policy, rules, lists) → Rulings: station 7, for a whole batch.

Who has the last word, from the first to the last; the order in which rules and entries stand never
matters, since of several of a kind the strictest counts:

1. An entry of a deny list: decline. Nothing overrides it.
2. An entry of the watch list: at least review; allow entries do not count beside it.
3. An entry of the allow list: approve, whatever rules and score say.
4. Rules that demand more than approve: at least the strictest of them.
5. A rule that demands approve: the score's opinion is set aside.
6. The score by its bands, raised by rules that say how high it must be taken; or, without a score,
   the fallback by amount. Letting through by chance concerns this step's word alone, and happens
   only where no rule, no watch and no deny entry demands more than approve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.event import Event, identity_of
from features.spec import Spec
from features.vector import base_minor
from models.decision import Outcome, Reason, RuleHit
from models.policy import digest_of, error_at, parse_policy
from models.policy_expressions import CompilerOf, RuleFault
from models.policy_limit import HitCounter
from models.policy_list_copy import ListCopy, ListMatch
from models.policy_lists import ListName
from models.policy_rules import RuleSet, Verdict
from models.policy_store import Switch
from models.policy_values import SEVERITY, Policy, Rule, Ruling

HALTS_MAX: Final = 1_000
ERRORS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Rulebook:
    """One policy, checked against one feature spec and compiled: what a scorer rules by.

    Attributes:
        digest: SHA-256 (hex) of its text.
    """

    policy: Policy
    digest: str
    rules: RuleSet


def compile_policy(text: str, name: str, spec: Spec, compiler_of: CompilerOf) -> Rulebook:
    """Check a policy's text against a spec, and compile its rules.

    Args:
        text: The YAML.
        name: Stands for the file in errors.
        spec: What rules may name.
        compiler_of: Of the rules' language.

    Raises:
        PolicyError: It is no policy for this spec; names file, line and field.
    """
    policy = parse_policy(text, name)
    for event_type in policy.event_types:
        if event_type not in spec.event_rules.event_types:
            known = ", ".join(sorted(spec.event_rules.event_types))
            raise error_at(name, text, f"event_types.{event_type}", f"expected one of: {known}")
    try:
        return Rulebook(policy, digest_of(text), RuleSet(policy, spec, compiler_of))
    except RuleFault as fault:
        raise error_at(name, text, fault.path, fault.fault) from fault


class Scored(NamedTuple):
    """What the model said of a batch, shape (m,) each; an unknown percentile is NaN."""

    p: Sequence[float]
    percentile: Sequence[float]


class Halt(NamedTuple):
    """A rule that this process halted, and of what it was too much."""

    rule: Rule
    why: str


class Ruler:
    """Rules on events by the policy of the moment. Its hits are counted; else it has no state.

    Attributes:
        book: The policy of the moment; swapped whole, between two batches.
        lists: The entries of the moment.
        halts: Halted by this process and not yet told to anybody.
        errors: Rule → what it first failed with under this policy.
    """

    def __init__(self, spec: Spec, book: Rulebook, *, limited: bool = True) -> None:
        """Begin with a policy, no lists and no switches; `limited`: rules can be halted."""
        self._spec = spec
        self._limited = limited
        self.lists = ListCopy()
        self.halts: list[Halt] = []
        self._decisions = 0
        self._switches: Mapping[str, Switch] = {}
        self.use(book)

    def use(self, book: Rulebook) -> None:
        """Rule by another policy from now on."""
        self.book = book
        self.errors: dict[str, str] = {}
        self._halted = {halt.rule.key for halt in self.halts}
        policy = book.policy
        self._counters = {
            i: HitCounter(limit)
            for i, rule in enumerate(policy.rules)
            if self._limited and not rule.shadow and (limit := policy.limit_of(rule)) is not None
        }

    def switch(self, switches: Mapping[str, Switch]) -> None:
        """Follow what operators and other scorers switched off; a rule that is on counts anew."""
        waiting = {halt.rule.key for halt in self.halts}
        for i, rule in enumerate(self.book.policy.rules):
            if rule.key in self._halted and rule.key not in waiting and rule.id not in switches:
                self._halted.discard(rule.key)
                limit = self.book.policy.limit_of(rule)
                if i in self._counters and limit is not None:
                    self._counters[i] = HitCounter(limit)
        self._switches = dict(switches)

    def rule_many(
        self,
        events: Sequence[Event],
        X: NDArray[np.float32] | None,
        scored: Scored | None,
        now_ms: int,
    ) -> list[Ruling]:
        """Rule on a batch, in order.

        Args:
            events: m events.
            X: Their vectors, shape (m, n_features); None where the features are missing, and then
                a score does not count either.
            scored: What the model said; None without a model.
            now_ms: Wall clock.
        """
        matches = self.lists.matches(events, now_ms)
        rules = self.book.rules
        rows = rules.rows_of(X) if rules.looks and X is not None else None
        rulings: list[Ruling] = []
        for i, event in enumerate(events):
            self._decisions += 1
            p = percentile = None
            if scored is not None and X is not None:
                p, percentile = scored.p[i], scored.percentile[i]
            found: list[Verdict] = []
            if rules.looks:
                x = rows[i] if rows is not None else None
                found = rules.verdicts(event, x, p, percentile)
            met = matches[i] if matches is not None else ()
            if not found and not met:
                rulings.append(self._by_score(event, p, percentile))
            else:
                rulings.append(self._by_all(event, p, percentile, found, met, now_ms))
        return rulings

    def _by_score(self, event: Event, p: float | None, percentile: float | None) -> Ruling:
        policy = self.book.policy
        if p is None or percentile is None:
            amount = base_minor(self._spec, event)
            return Ruling(policy.fallback_for(event.event_type, amount))
        outcome = policy.outcome_of(event.event_type, p, percentile)
        if policy.pass_through is None or outcome == "approve":
            return Ruling(outcome)
        return policy.ruling_of(outcome, identity_of(event), base_minor(self._spec, event))

    def _by_all(
        self,
        event: Event,
        p: float | None,
        percentile: float | None,
        found: Sequence[Verdict],
        met: Sequence[ListMatch],
        now_ms: int,
    ) -> Ruling:
        """Rule on an event that met a rule or a list; see the module for the order."""
        hits, acting = self._states(found, now_ms)
        floors = [rule.score_at_least for rule in acting if rule.score_at_least is not None]
        if p is not None and percentile is not None:
            for floor in floors:
                p = max(p, floor.probability or 0.0)
                if floor.percentile is not None:  # a NaN, which is unknown, gives way to it
                    percentile = float(np.fmax(percentile, floor.percentile))
        demands = [rule.outcome for rule in acting if rule.outcome is not None]
        strictest = max(demands, key=SEVERITY.__getitem__, default=None)
        lists = {match.list for match in met}
        ruling = self._ruling(event, p, percentile, strictest, lists, "approve" in demands)
        reasons = [_list_reason(match) for match in met]
        reasons += [_rule_reason(rule) for rule in _strictest_first(acting)]
        return ruling._replace(rules=tuple(hits), reasons=tuple(reasons))

    def _ruling(
        self,
        event: Event,
        p: float | None,
        percentile: float | None,
        demand: Outcome | None,
        lists: set[ListName],
        approved: bool,
    ) -> Ruling:
        if "deny" in lists:
            return Ruling("decline")
        if "allow" in lists and "watch" not in lists:
            return Ruling("approve")
        floor: Outcome = demand or "approve"
        if "watch" in lists:
            floor = max(floor, "review", key=SEVERITY.__getitem__)
        if floor == "approve":
            return Ruling("approve") if approved else self._by_score(event, p, percentile)
        if approved:
            return Ruling(floor)
        policy = self.book.policy
        if p is None or percentile is None:
            amount = base_minor(self._spec, event)
            own = policy.fallback_for(event.event_type, amount)
        else:
            own = policy.outcome_of(event.event_type, p, percentile)
        return Ruling(max(own, floor, key=SEVERITY.__getitem__))

    def _states(self, found: Sequence[Verdict], now_ms: int) -> tuple[list[RuleHit], list[Rule]]:
        """Return what is recorded of the rules, and those that have their say."""
        rules = self.book.policy.rules
        recorded: list[RuleHit] = []
        acting: list[Rule] = []
        for index, state, detail in found:
            rule = rules[index]
            switch = self._switches.get(rule.id)
            if _snoozed(rule, switch, now_ms):
                continue
            if state == "error":
                if len(self.errors) < ERRORS_MAX:
                    self.errors.setdefault(rule.key, detail)
                recorded.append(RuleHit(id=rule.id, version=rule.version, state="error"))
            elif rule.shadow:
                recorded.append(RuleHit(id=rule.id, version=rule.version, state="shadow"))
            elif self._is_halted(index, rule, switch, now_ms):
                recorded.append(RuleHit(id=rule.id, version=rule.version, state="halted"))
            else:
                recorded.append(RuleHit(id=rule.id, version=rule.version, state="hit"))
                acting.append(rule)
        return recorded, acting

    def _is_halted(self, index: int, rule: Rule, switch: Switch | None, now_ms: int) -> bool:
        if rule.key in self._halted:
            return True
        if switch is not None and switch.kind == "halted" and switch.version == rule.version:
            return True
        counter = self._counters.get(index)
        why = counter.exceeded(self._decisions, now_ms) if counter is not None else ""
        if not why:
            return False
        self._halted.add(rule.key)
        if len(self.halts) < HALTS_MAX:
            self.halts.append(Halt(rule, why))
        return True


def _snoozed(rule: Rule, switch: Switch | None, now_ms: int) -> bool:
    until = rule.snooze_until
    if until is not None and now_ms < until.timestamp() * 1000:
        return True
    return switch is not None and switch.kind == "snoozed" and now_ms < switch.until_ms


def _strictest_first(rules: Sequence[Rule]) -> list[Rule]:
    return sorted(rules, key=lambda rule: -SEVERITY[rule.outcome or "approve"])


def _rule_reason(rule: Rule) -> Reason:
    return Reason(code=rule.code or rule.id, source="rule", text=rule.reason or None)


def _list_reason(match: ListMatch) -> Reason:
    return Reason(
        code=f"{match.list}_list",
        source="list",
        feature=f"entities.{match.entity}",
        text=match.reason or None,
    )
