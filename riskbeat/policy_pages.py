"""what stands in the policy store → lines for people."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from features.event import from_ms
from models.policy_backtest import Outlook
from models.policy_ruling import Rulebook
from models.policy_store import KeptPolicy, PolicyAct, PolicyStanding, ScorerPolicy, Switch
from models.policy_values import Rule
from riskbeat.policy_acts import Done


def checked_lines(name: str, book: Rulebook, costs: Mapping[str, float]) -> list[str]:
    """Say what a policy file that was checked holds."""
    rules = book.policy.rules
    shadows = sum(rule.shadow for rule in rules)
    off = sum(not rule.enabled for rule in rules)
    lines = [
        f"{name}: version {book.policy.version}, digest {book.digest[:12]}; "
        f"{len(rules)} rules, {shadows} of them shadows, {off} disabled"
    ]
    if costs:
        slowest = max(costs, key=costs.__getitem__)
        mean_us = sum(costs.values()) / len(costs)
        lines.append(
            f"a rule by itself takes {mean_us:.1f} µs; the slowest is {slowest}, "
            f"{costs[slowest]:.1f} µs"
        )
    return lines


def shown_lines(
    standing: PolicyStanding,
    kept: KeptPolicy,
    book: Rulebook,
    switches: Mapping[str, Switch],
    scorers: Mapping[str, ScorerPolicy],
    now: datetime,
) -> list[str]:
    """Say which policy counts, what its rules are, and who rules by it."""
    if standing.active == 0:
        lines = [f"nothing was applied yet; scorers begin with version {kept.version}, on disk"]
    else:
        lines = [
            f"version {kept.version} counts, digest {kept.digest[:12]}; applied "
            f"{_when(kept.at_ms)} by {kept.by}: {kept.why}"
        ]
    lines += [_rule_line(rule, switches.get(rule.id), now) for rule in book.policy.rules]
    for name, scorer in sorted(scorers.items()):
        refused = f"; refused: {scorer.refused}" if scorer.refused else ""
        lines.append(f"scorer {name} rules by version {scorer.version}{refused}")
    return lines


def act_line(act: PolicyAct) -> str:
    """Say one act."""
    version = f" version {act.version}" if act.version else ""
    subject = f" {act.subject}" if act.subject else ""
    return f"{_when(act.at_ms)}  {act.act}{version}{subject}  by {act.by}: {act.why}"


def outlook_lines(outlook: Outlook) -> list[str]:
    """Say what a policy would have made of past decisions."""
    share = outlook.changed / outlook.decisions if outlook.decisions else 0.0
    lines = [
        f"{outlook.changed} of {outlook.decisions} decisions ({share:.2%}) would have had "
        "another outcome"
    ]
    for (was, now), count in sorted(outlook.moves.items(), key=lambda one: -one[1]):
        if was != now:
            lines.append(f"  {was} → {now}: {count}")
    for rule, states in outlook.rules.items():
        told = ", ".join(f"{state} {count}" for state, count in sorted(states.items()))
        lines.append(f"  rule {rule}: {told or 'never'}")
    if outlook.other_spec:
        lines.append(f"  left out: {outlook.other_spec} decisions of another feature spec")
    return lines


def done_lines(done: Done) -> Sequence[str]:
    """Say who follows an act, and who refuses."""
    if not done.scorers:
        return ["no scorer is running"]
    lines = [f"{done.following} of {len(done.scorers)} scorers rule by it"]
    lines += [
        f"scorer {name} refused it: {scorer.refused}"
        for name, scorer in sorted(done.scorers.items())
        if scorer.refused
    ]
    return lines


def _rule_line(rule: Rule, switch: Switch | None, now: datetime) -> str:
    then = rule.outcome or "score_at_least"
    return f"  {rule.id} version {rule.version}: {_state_of(rule, switch, now)}; {then}"


def _state_of(rule: Rule, switch: Switch | None, now: datetime) -> str:
    if not rule.enabled:
        return "disabled"
    if rule.snooze_until is not None and now < rule.snooze_until:
        return f"snoozed until {rule.snooze_until.isoformat()}"
    if switch is not None:
        if switch.kind == "snoozed" and now < from_ms(switch.until_ms):
            return f"snoozed until {_when(switch.until_ms)} by {switch.by}: {switch.why}"
        if switch.kind == "halted" and switch.version == rule.version:
            return f"halted {_when(switch.at_ms)}: {switch.why}"
    return "shadow" if rule.shadow else "on"


def _when(at_ms: int) -> str:
    return from_ms(at_ms).isoformat(timespec="seconds").replace("+00:00", "Z")
