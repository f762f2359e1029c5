"""log → learner → numbered, signed weights: the learner's loop, over ports.

The order of one turn; whatever dies between two numbers is repeated from the last commit, and
repeating it changes nothing for those who read:
  1 poll decisions and labels, from the offsets of the last commit on
  2 parse; reject to the dead-letter topic, acknowledged
  3 step: join, learn, judge, put label transitions into the outbox
and, when a checkpoint is due:
  4 commit: join rows, outbox, learner, offsets and the signed chain of version n, durable together
  5 send the outbox to the label updates topic, in the order of its numbers
  6 send version n to the weights topic
  7 compare-and-set the registry from n - 1 to n
  8 report how far the learner has come
Steps 4 to 8 stand in `pipeline/publish.py`. The offsets are the checkpoint's own; the log keeps
none for the learner.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from features.event import EventRejected, EventRules
from features.spec_values import Currency
from pipeline.cuts import in_order
from pipeline.decided import PlacedLabel, parse_decided, parse_placed_label
from pipeline.join import JoinRow, place_of
from pipeline.learn import LearnStep
from pipeline.learn_ports import LearnLog, LearnWatch, Polled, Taken
from pipeline.position import StepCounts
from pipeline.publish import Publisher
from pipeline.tenure import Tenure

POLL_S = 0.1

Parsed = tuple[list[JoinRow], list[PlacedLabel], list[tuple[Taken, EventRejected]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseRules:
    """What records are read by; `currencies` lead to the base currency."""

    event_rules: EventRules
    spec_digest: str
    n_features: int
    currencies: Mapping[str, Currency] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRules:
    """What the loop is told.

    Attributes:
        publish_interval_s: A new version this often, while something was learned.
        quiet_interval_s: And this often at most, when nothing more is there to be learned.
    """

    parse: ParseRules
    publish_interval_s: float = 1.0
    quiet_interval_s: float = 0.2


class LearnLoop:
    """Turns until it is stopped; see the module for the order."""

    def __init__(
        self,
        rules: LoopRules,
        log: LearnLog,
        step: LearnStep,
        publisher: Publisher,
        tenure: Tenure,
        watch: LearnWatch,
        tick_s: Callable[[], float],
    ) -> None:
        """Take the ports.

        Args:
            rules: What it is told.
            log: Opened by its owner, and closed by it.
            step: What learns.
            publisher: Over the same log and step.
            tenure: Taken by its owner, and left by it.
            watch: Who is told.
            tick_s: A monotonic clock.
        """
        self._rules = rules
        self._log = log
        self._step = step
        self._publisher = publisher
        self._tenure = tenure
        self._watch = watch
        self._tick_s = tick_s
        self._moved = False
        self._checkpoint_s = float("-inf")

    @property
    def idle(self) -> bool:
        """Whether all that was taken is settled and durable."""
        return not (self._moved or self._step.more_due)

    async def run(self, stop: asyncio.Event) -> None:
        """Recover, then turn until `stop` is set; ends with a checkpoint of what was taken."""
        await self.recover()
        while not stop.is_set():
            await self.turn()
        if self._moved or self._step.learned_since_publish:
            await self.checkpoint()

    async def recover(self) -> None:
        """Take the last commit up again, and finish what it had begun to publish.

        Raises:
            CheckpointLost: Somebody has published more than this disk knows.
            LabelsTaken: Sending label transitions is another learner's, or was this one's.
        """
        self._step.restore()
        published = await self._publisher.recover()
        await self._log.start_at(self._step.position.offsets)
        if not published:
            await self.checkpoint()  # the prior: scorers always have a model

    async def turn(self) -> None:
        """Take one batch, and make a checkpoint when one is due.

        Raises:
            LeaseLost: Another learner publishes now.
        """
        await self._tenure.renew()
        began_s = self._tick_s()
        if self._step.more_due:
            counts = StepCounts()
            self._step.settle_due(counts)
            self._publisher.settled()
            self._moved = True
            self._watch.stepped(counts, 0, self._tick_s() - began_s)
            caught_up = False
        else:
            polled = await self._log.poll(POLL_S)  # 1
            caught_up = polled.caught_up
            if polled.records:
                await self._take(polled)
        if self._is_due(caught_up and not self._step.more_due):
            await self.checkpoint()
        elif self.idle:
            self._publisher.rest()

    async def _take(self, polled: Polled) -> None:
        began_s = self._tick_s()
        records = in_order(polled.records)
        decisions, labels, rejects = parse_records(self._rules.parse, records)  # 2
        if rejects:
            await self._log.reject_many(rejects)
        counts = self._step.take(decisions, labels)  # 3
        for _, error in rejects:
            counts.count(counts.rejects, error.code)
        counts.traces += [one.trace for one in records if one.trace and one.kind == "label"]
        self._step.position.offsets.update(polled.offsets)
        appends_ms = [record.appended_ms for record in records if record.kind == "label"]
        self._publisher.took(polled.offsets, appends_ms)
        self._moved = True
        self._watch.stepped(counts, len(rejects), self._tick_s() - began_s)
        await asyncio.sleep(0)  # clients' own tasks need a turn between long steps

    async def checkpoint(self) -> None:
        """Make durable what was taken; publish a version if something was learned."""
        moved, self._moved = self._moved, False
        await self._publisher.checkpoint(moved=moved)  # 4 to 8
        self._checkpoint_s = self._tick_s()

    def _is_due(self, caught_up: bool) -> bool:
        if not (self._moved or self._step.learned_since_publish or self._publisher.wants):
            return False
        waited_s = self._tick_s() - self._checkpoint_s
        if caught_up and waited_s >= self._rules.quiet_interval_s:
            return True
        return waited_s >= self._rules.publish_interval_s or self._publisher.full_up


def parse_records(rules: ParseRules, records: Sequence[Taken]) -> Parsed:
    """Return the decisions and labels of a take, and what is neither."""
    decisions: list[JoinRow] = []
    labels: list[PlacedLabel] = []
    rejects: list[tuple[Taken, EventRejected]] = []
    for record in records:
        place = place_of(record.partition, record.offset)
        try:
            if record.kind == "decision":
                decisions.append(
                    parse_decided(
                        record.body,
                        place,
                        rules.spec_digest,
                        rules.n_features,
                        rules.event_rules,
                        rules.currencies,
                        record.trace,
                    )
                )
            else:
                labels.append(
                    parse_placed_label(record.body, place, rules.event_rules, record.appended_ms)
                )
        except EventRejected as error:
            rejects.append((record, error))
    return decisions, labels, rejects
