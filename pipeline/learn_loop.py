"""log → learner → numbered, signed weights: the learner's loop, over ports.

The order of one turn; whatever dies between two numbers is repeated from the last commit, and
repeating it changes nothing for those who read:
  1 poll decisions and labels, from the offsets of the last commit on
  2 parse; reject to the dead-letter topic, acknowledged
  3 step: join, learn, judge, put label transitions into the outbox
and, when a checkpoint is due:
  4 commit: join rows, outbox, learner, offsets and the signed bytes of version n, durable together
  5 send the outbox to the label updates topic, in the order of its numbers
  6 send version n to the weights topic
  7 compare-and-set the registry from n - 1 to n
  8 report how far the learner has come
The offsets are the checkpoint's own; the log keeps none for the learner.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from features.event import EventRejected, EventRules
from models.registry import WeightsRegistry
from models.signing import Signer
from models.weights import encode, sha256_of
from pipeline.decided import PlacedLabel, parse_decided, parse_placed_label
from pipeline.join import JoinRow, JoinStore, Outgoing, place_of
from pipeline.learn import LearnStep
from pipeline.learn_duty import agree_who_sends_labels
from pipeline.position import StepCounts

OUTBOX_BATCH = 5_000
POLL_S = 0.1


class CheckpointLost(RuntimeError):
    """The registry or the weights topic knows a newer version than this learner's disk."""


class Taken(NamedTuple):
    """One record of the log."""

    kind: Literal["decision", "label"]
    topic: str
    partition: int
    offset: int
    appended_ms: int
    body: bytes


class Polled(NamedTuple):
    """What one poll gave.

    Attributes:
        offsets: "topic:partition" → next offset after these records; only those that moved.
        caught_up: There was nothing more to take at that moment.
    """

    records: Sequence[Taken]
    offsets: dict[str, int]
    caught_up: bool


class LearnLog(Protocol):
    """The log as the learner uses it. Every send returns when all is acknowledged, or raises.

    Implementation: `learn_kafka.KafkaLearnLog`.
    """

    async def start_at(self, offsets: dict[str, int]) -> None:
        """Read on from these offsets; partitions without one from their start."""

    async def poll(self, timeout_s: float) -> Polled:
        """Return the next records, in the order of their append as far as it is known."""

    async def reject_many(self, rejects: Sequence[tuple[Taken, EventRejected]]) -> None:
        """Send dead letters."""

    async def send_transitions(self, records: Sequence[Outgoing]) -> None:
        """Send label transitions, in order, each to its partition."""

    async def send_weights(self, version: int, data: bytes) -> None:
        """Append a version to the weights topic."""

    async def last_weights_version(self) -> int:
        """Return the number of the newest version in the weights topic; 0 for none."""

    async def read_weights(self, first: int, last: int) -> dict[int, bytes]:
        """Return those versions of a range that the weights topic still holds."""


class LearnWatch(Protocol):
    """Who is told what the loop does; `pipeline.metrics.LearnMetrics`."""

    def stepped(self, counts: StepCounts, rejects: int, seconds: float) -> None:
        """One batch was taken in."""

    def published(self, version: int, created_at_ms: int, figures: dict[str, float]) -> None:
        """A version is on the shelf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRules:
    """What the loop is told.

    Attributes:
        publish_interval_s: A new version this often, while something was learned.
        quiet_interval_s: And this often at most, when nothing more is there to be learned.
        keep_versions: How many versions the registry holds.
        sends_labels: As in `LearnRules`.
    """

    event_rules: EventRules
    spec_digest: str
    n_features: int
    code_version: str
    publish_interval_s: float = 1.0
    quiet_interval_s: float = 0.2
    keep_versions: int = 300
    sends_labels: bool = True


class LearnLoop:
    """Turns until it is stopped; see the module for the order."""

    def __init__(
        self,
        rules: LoopRules,
        log: LearnLog,
        store: JoinStore,
        step: LearnStep,
        registry: WeightsRegistry,
        signer: Signer,
        watch: LearnWatch,
        now_ms: Callable[[], int],
        tick_s: Callable[[], float],
    ) -> None:
        """Take the ports.

        Args:
            rules: What it is told.
            log: Opened by its owner, and closed by it.
            store: Likewise.
            step: On the same store.
            registry: Where versions go.
            signer: Who signs them.
            watch: Who is told.
            now_ms: The wall clock.
            tick_s: A monotonic clock.
        """
        self._rules = rules
        self._log = log
        self._store = store
        self._step = step
        self._registry = registry
        self._signer = signer
        self._watch = watch
        self._now_ms = now_ms
        self._tick_s = tick_s
        self._moved = False
        self._checkpoint_s = float("-inf")

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
        position = self._step.position
        standing = await self._registry.standing()
        in_topic = await self._log.last_weights_version()
        known = max(standing.latest, in_topic)
        anew = position.version == 0 and bool(position.offsets)
        if anew:  # it knows what was decided, and has yet to publish for this spec
            position.version = known
        if known > position.version:
            raise CheckpointLost(
                f"version {known} has been published, and the checkpoint on this disk is version "
                f"{position.version}: either another learner is running (stop one), or this data "
                "directory is not the one it learned with (bring it back from its volume or a "
                "backup; to begin anew, use another topic prefix and Redis prefix)"
            )
        sends = self._rules.sends_labels
        await agree_who_sends_labels(self._step.sender, sends, self._store, self._registry)
        await self._log.start_at(position.offsets)
        if anew or position.version == 0:
            await self.checkpoint(publish=True)  # the prior: scorers always have a model
            return
        await self._send_outbox()
        if in_topic < position.version:
            await self._log.send_weights(position.version, self._step.weights)
        first = max(standing.latest + 1, position.version - self._rules.keep_versions + 1)
        for version, data in sorted(
            (await self._log.read_weights(first, position.version - 1)).items()
        ):
            await self._registry.restore(version, data)
        await self._registry.restore(position.version, self._step.weights)
        await self._registry.report_progress(position.offsets, position.version)

    async def turn(self) -> None:
        """Take one batch, and make a checkpoint when one is due."""
        began_s = self._tick_s()
        if self._step.more_due:
            counts = StepCounts()
            self._step.settle_due(counts)
            self._watch.stepped(counts, 0, self._tick_s() - began_s)
            caught_up = False
        else:
            polled = await self._log.poll(POLL_S)  # 1
            caught_up = polled.caught_up
            if polled.records:
                await self._take(polled)
        self._moved = self._moved or self._step.learned_since_publish
        if self._moved and self._is_due(caught_up and not self._step.more_due):
            await self.checkpoint()

    async def _take(self, polled: Polled) -> None:
        began_s = self._tick_s()
        decisions, labels, rejects = self._parse(polled.records)  # 2
        if rejects:
            await self._log.reject_many(rejects)
        counts = self._step.take(decisions, labels)  # 3
        self._step.position.offsets.update(polled.offsets)
        self._moved = True
        self._watch.stepped(counts, len(rejects), self._tick_s() - began_s)
        await asyncio.sleep(0)  # clients' own tasks need a turn between long steps

    async def checkpoint(self, *, publish: bool = False) -> None:
        """Make durable what was taken; publish a version if something was learned."""
        step, position = self._step, self._step.position
        data = None
        figures: dict[str, float] = {}
        created_at_ms = self._now_ms()
        if publish or step.learned_since_publish:
            weights = step.snapshot(created_at_ms, self._rules.code_version)
            figures = dict(weights.metrics)
            data = encode(weights, self._signer)
        sha256 = "" if data is None else sha256_of(data)
        self._store.commit(step.checkpoint_parts(data, sha256))  # 4
        self._moved = False
        await self._send_outbox()  # 5
        if data is not None:
            await self._log.send_weights(position.version, data)  # 6
            await self._registry.publish(position.version, data)  # 7
            self._watch.published(position.version, created_at_ms, figures)
        if not step.more_due:
            await self._registry.report_progress(position.offsets, position.version)  # 8
        self._checkpoint_s = self._tick_s()

    async def _send_outbox(self) -> None:
        while records := self._store.outbox(OUTBOX_BATCH):
            await self._log.send_transitions(records)
            self._store.mark_sent(records)

    def _is_due(self, caught_up: bool) -> bool:
        waited_s = self._tick_s() - self._checkpoint_s
        if caught_up and waited_s >= self._rules.quiet_interval_s:
            return True
        return waited_s >= self._rules.publish_interval_s

    def _parse(
        self, records: Sequence[Taken]
    ) -> tuple[list[JoinRow], list[PlacedLabel], list[tuple[Taken, EventRejected]]]:
        rules = self._rules
        decisions: list[JoinRow] = []
        labels: list[PlacedLabel] = []
        rejects: list[tuple[Taken, EventRejected]] = []
        for record in records:
            place = place_of(record.partition, record.offset)
            try:
                if record.kind == "decision":
                    decisions.append(
                        parse_decided(record.body, place, rules.spec_digest, rules.n_features)
                    )
                else:
                    labels.append(
                        parse_placed_label(
                            record.body, place, rules.event_rules, record.appended_ms
                        )
                    )
            except EventRejected as error:
                rejects.append((record, error))
        return decisions, labels, rejects
