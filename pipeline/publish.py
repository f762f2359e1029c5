"""learner → a numbered, signed version on the shelf: steps 4 to 8 of the learner's loop.

A version is written as a delta to the one before where that is much smaller: each checkpoint holds
the whole chain of its version, so the next learner on this disk goes on with it. While publishing
is frozen the loop learns and commits as ever, and makes no version.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from models.registry import Freeze, WeightsRegistry
from models.signing import Signer
from models.slew import ALPHA
from models.weights import Weights, sha256_of
from models.weights_chain import Links, assemble
from models.weights_delta import DELTA_CHAIN_MAX, encode_next, is_delta
from pipeline.cuts import ANEW, COMMIT, SETTLE, WITHHELD, Line, take_of
from pipeline.give_back import give_back
from pipeline.join import JoinStore
from pipeline.learn import LearnStep
from pipeline.learn_duty import agree_who_sends_labels
from pipeline.learn_ports import Inspector, LearnLog, LearnWatch, Published
from pipeline.tenure import Tenure

OUTBOX_BATCH = 5_000
LABEL_WAITS_MAX = 20_000
LABELS_TOLD_MAX = 64
LINE, CHAIN = "publish/line", "publish/chain/"
CHECKS = "learner"


class CheckpointLost(RuntimeError):
    """The registry or the weights topic knows a newer version than this learner's disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRules:
    """What publishing is told.

    Attributes:
        code_version: Build of the learner.
        keep_versions: How many versions the registry holds.
        full_every: Every so many versions at most one is full; 1 makes all of them full.
        sends_labels: As in `LearnRules`.
    """

    code_version: str
    keep_versions: int = 300
    full_every: int = DELTA_CHAIN_MAX
    sends_labels: bool = True


class _Made(NamedTuple):
    weights: Weights
    data: bytes
    base: int


class Publisher:
    """Knows which version is next, what it is a delta to, and whether it may be made."""

    def __init__(
        self,
        rules: PublishRules,
        log: LearnLog,
        store: JoinStore,
        step: LearnStep,
        registry: WeightsRegistry,
        tenure: Tenure,
        signer: Signer,
        watch: LearnWatch,
        now_ms: Callable[[], int],
        tick_s: Callable[[], float],
        inspector: Inspector | None = None,
        after_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the ports; `after_commit` hears whenever all that was taken is durable."""
        assert 1 <= rules.full_every <= DELTA_CHAIN_MAX
        self._rules = rules
        self._log = log
        self._store = store
        self._step = step
        self._registry = registry
        self._tenure = tenure
        self._signer = signer
        self._watch = watch
        self._now_ms = now_ms
        self._tick_s = tick_s
        self._inspector = inspector
        self._after_commit = after_commit
        self._line = Line()
        self._parent: Weights | None = None
        self._frozen: Freeze | None = None
        self._label_appends_ms: list[int] = []

    @property
    def wants(self) -> bool:
        """Whether a version is due whatever was learned."""
        return self._line.owed or self._line.full_up

    @property
    def full_up(self) -> bool:
        """Whether a checkpoint must come before the next take."""
        return self._line.full_up

    def took(self, offsets: dict[str, int], label_appends_ms: Sequence[int]) -> None:
        """Note that records up to these offsets were taken in, labels of these append times."""
        self._line.cuts.append(take_of(offsets))
        room = LABEL_WAITS_MAX - len(self._label_appends_ms)
        self._label_appends_ms += label_appends_ms[: max(room, 0)]

    def settled(self) -> None:
        """Note that what was due was settled."""
        self._line.cuts.append([SETTLE])

    async def recover(self) -> bool:
        """Finish what the last commit had begun to publish; False if there was nothing yet.

        Raises:
            CheckpointLost: Somebody has published more than this disk knows.
            LabelsTaken: Sending label transitions is another learner's, or was this one's.
        """
        position = self._step.position
        parts = self._store.parts()
        in_topic = await self._log.last_weights_version()
        known = max(await self._registry.latest_version(), in_topic)
        if LINE in parts:
            self._line = msgspec.msgpack.decode(parts[LINE], type=Line)
        elif position.version == 0 and position.offsets:
            # it knows what was decided, and has yet to publish for this spec
            position.version = known
            self._line = Line(owed=True, cuts=[[ANEW]])
        self._line.owed |= position.version == 0
        if known > position.version:
            raise CheckpointLost(
                f"version {known} has been published, and the checkpoint on this disk is version "
                f"{position.version}: either another learner is running (stop one), or this data "
                "directory is not the one it learned with (bring it back from its volume or a "
                "backup; to begin anew, use another topic prefix and Redis prefix)"
            )
        sends = self._rules.sends_labels
        await agree_who_sends_labels(self._step.sender, sends, self._store, self._registry)
        await self._send_outbox()
        if not self._line.full:
            return False
        chain = _chain_of(parts, self._line.full, position.version)
        self._parent = assemble(Links(None, chain), (self._signer.public_key,)).weights
        if self._line.page:
            await self._send_page()
        keep = self._rules.keep_versions
        await give_back(self._log, self._registry, chain, position.version, keep)
        await self._registry.report_progress(position.offsets, position.version)
        return True

    async def checkpoint(self, *, moved: bool) -> None:
        """Make durable what was taken; publish a version if something was learned.

        Args:
            moved: Whether anything was taken in since the last checkpoint.

        Raises:
            LeaseLost: Another learner publishes now.
            VersionConflict: Another learner has published.
        """
        step, began_s = self._step, self._tick_s()
        await self._look()
        made = None
        if self._frozen is None and (step.learned_since_publish or self.wants):
            await self._tenure.hold()
            made = await self._make()
            moved = True
        if not moved:
            return
        if made is None:
            self._store.commit(step.checkpoint_parts(None, "") | self._held_back())  # 4
        else:
            # the chain holds the bytes; the step need not keep them a second time
            parts = step.checkpoint_parts(b"", sha256_of(made.data))
            self._store.commit(parts | self._chained(made))
        self._after_commit()
        await self._send_outbox()  # 5
        if made is None and self._line.page:
            await self._send_page()
        if made is not None:
            await self._publish(made, began_s)
        if not (step.more_due or (self._line.owed and self._frozen is None)):
            position = step.position
            await self._registry.report_progress(position.offsets, position.version)  # 8

    def rest(self) -> None:
        """Let those go on who wait for commits, while there is nothing to commit."""
        self._after_commit()

    async def _publish(self, made: _Made, began_s: float) -> None:
        version = made.weights.version
        await self._log.send_weights(version, made.data)  # 6
        await self._tenure.hold()
        await self._registry.publish(version, made.data, made.base)  # 7
        now_ms = self._now_ms()
        waits_s = [(now_ms - at_ms) / 1000 for at_ms in self._label_appends_ms]
        self._label_appends_ms = []
        self._watch.published(
            Published(
                version=version,
                base=made.base,
                size_bytes=len(made.data),
                created_at_ms=made.weights.created_at_ms,
                seconds=self._tick_s() - began_s,
                label_waits_s=waits_s,
                figures=made.weights.metrics,
                sha256=self._step.position.sha256,
            )
        )

    async def _make(self) -> _Made | None:
        """Make the next version; None if it is withheld, and publishing frozen for it."""
        step = self._step
        weights = step.snapshot(self._now_ms(), self._rules.code_version)
        weights = dataclasses.replace(
            weights,
            cuts=tuple(self._line.all_cuts()),
            label_appends_ms=_told_of(self._label_appends_ms),
        )
        if self._inspector is not None:
            weights, reasons = self._inspector.inspect(weights, self._parent)
            if reasons:
                step.position.version -= 1
                self._line.cuts.append([WITHHELD])
                await self._freeze(reasons)
                return None
        return _Made(weights, *self._encode(weights))

    def _encode(self, weights: Weights) -> tuple[bytes, int]:
        """Return the bytes and their base: a delta where it is small, else a full version."""
        chain = weights.version - self._line.full
        parent = self._parent if chain < self._rules.full_every else None
        data = encode_next(parent, weights, self._signer, chain)
        return data, is_delta(data)

    def _chained(self, made: _Made) -> dict[str, bytes]:
        """Take a version as the newest; return what a checkpoint must hold of it.

        One that stops short of what was learned, since steps are bounded, owes another.
        """
        self._line.begin(made.weights.version, made.base)
        self._line.owed = made.weights.metrics.get(ALPHA, 1.0) < 1.0
        self._parent = made.weights
        place = f"{CHAIN}{made.weights.version - self._line.full}"
        return {place: made.data, LINE: msgspec.msgpack.encode(self._line)}

    def _held_back(self) -> dict[str, bytes]:
        """Return what a checkpoint without a version must hold."""
        self._line.owed |= self._step.learned_since_publish  # the next life does not know
        if self._line.owed:
            self._line.cuts.append([COMMIT])
        if self._line.full_up:
            self._line.turn_page()
        return {LINE: msgspec.msgpack.encode(self._line)}

    async def _look(self) -> None:
        """Learn whether publishing is frozen, and say so when that changed."""
        found = await self._registry.frozen()
        if self._inspector is not None:
            self._inspector.hear_frozen(found is not None)
        if found != self._frozen:
            self._watch.freeze_changed(found)
        self._frozen = found

    async def _freeze(self, reasons: Sequence[str]) -> None:
        assert self._inspector is not None
        freeze = Freeze(by=CHECKS, why="; ".join(reasons), at_ms=self._now_ms(), cause="checks")
        self._frozen = await self._registry.freeze(freeze)
        self._inspector.hear_frozen(True)  # it may be thawed before the next look
        self._watch.freeze_changed(self._frozen)

    async def _send_outbox(self) -> None:
        while records := self._store.outbox(OUTBOX_BATCH):
            await self._log.send_transitions(records)
            self._store.mark_sent(records)

    async def _send_page(self) -> None:
        line = self._line
        await self._log.send_cuts(self._step.position.version + 1, line.pages - 1, line.page)
        line.page = b""


def _told_of(appends_ms: Sequence[int]) -> tuple[int, ...]:
    """Return an even sample, oldest first."""
    every = -(-len(appends_ms) // LABELS_TOLD_MAX) or 1
    return tuple(sorted(appends_ms)[::every])


def _chain_of(parts: dict[str, bytes], full: int, newest: int) -> list[bytes]:
    return [parts[f"{CHAIN}{place}"] for place in range(newest - full + 1)]
