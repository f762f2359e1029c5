"""checkpoint n + the log → versions n + 1 … m once more: what was published must follow from them.

A version's manifest says where each take of it ended (`pipeline/cuts.py`), so whoever has the log
and the checkpoint of an earlier version, or begins with nothing, can do the same steps and must
arrive at the same numbers, bit for bit, on the same build.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec
import numpy as np

from models.weights import Weights
from pipeline.cuts import ANEW, COMMIT, PAGES, SETTLE, TAKE, WITHHELD, Cut, Line, in_order
from pipeline.join import JoinStore
from pipeline.learn import LearnStep
from pipeline.learn_loop import ParseRules, parse_records
from pipeline.learn_ports import Inspector, Taken
from pipeline.position import StepCounts
from pipeline.publish import LINE


class CannotRelearn(ValueError):
    """The versions do not follow from what was given; says what is missing."""


class LogReader(Protocol):
    """The log, read by offsets. Implementation: `relearn_kafka.KafkaLogReader`."""

    async def read(self, source: str, first: int, last: int) -> list[Taken]:
        """Return the records of "topic:partition" with offsets in [first, last).

        Raises:
            CannotRelearn: The log no longer holds all of them.
        """


@dataclass(frozen=True, slots=True)
class Compared:
    """A published version beside the one that follows from the log; no differences: equal."""

    version: int
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A published version, and how it was published.

    Attributes:
        sha256: Of its bytes: the parent hash of the next.
        cuts: All of its cuts, those of pages included.
    """

    weights: Weights
    sha256: str
    cuts: Sequence[Cut]


def cuts_of(weights: Weights, pages: Mapping[tuple[int, int], bytes]) -> list[Cut]:
    """Return all cuts of a version.

    Args:
        weights: The version.
        pages: (version, page) → body, as the weights topic holds them.

    Raises:
        CannotRelearn: A page is missing.
    """
    listed = [list(cut) for cut in weights.cuts]
    if not listed or listed[0][0] != PAGES:
        return listed
    found: list[Cut] = []
    for page in range(listed[0][1]):
        if (weights.version, page) not in pages:
            raise CannotRelearn(f"page {page} of version {weights.version}'s cuts is missing")
        found += msgspec.json.decode(pages[weights.version, page], type=list[list[Any]])
    return found + listed[1:]


class Relearner:
    """Goes through the log as the learner did."""

    def __init__(
        self,
        rules: ParseRules,
        reader: LogReader,
        store: JoinStore,
        step: LearnStep,
        inspector: Inspector | None = None,
    ) -> None:
        """Take the ports.

        Args:
            rules: As the learner's.
            reader: The log.
            store: Empty, or a copy of the learner's: it is written to.
            step: As the learner's, on this store.
            inspector: As the learner's.
        """
        self._rules = rules
        self._reader = reader
        self._store = store
        self._step = step
        self._inspector = inspector
        self._parent: Weights | None = None

    def begin(self, parent: Weights | None) -> int:
        """Take up the store's checkpoint; return its version, 0 for none.

        Args:
            parent: The published version of that number, if there is one.
        """
        self._step.restore()
        self._parent = parent
        return self._step.position.version

    async def compare_many(self, shown: Iterable[Shown]) -> AsyncIterator[Compared]:
        """Learn each version again, in order, and compare.

        Raises:
            CannotRelearn: A version does not follow the one before, or the log has a hole.
        """
        done = self._done_already()
        for one in shown:
            position = self._step.position
            if one.weights.version != position.version + 1:
                raise CannotRelearn(
                    f"version {one.weights.version} does not follow {position.version}, the "
                    "checkpoint's: give the copy of the data directory that was made then"
                )
            for cut in one.cuts[done:]:
                await self._repeat(cut)
            done = 0
            yield self._compare(one)

    def _done_already(self) -> int:
        """Return how many cuts of the next version the checkpoint holds."""
        data = self._store.parts().get(LINE)
        if data is None:
            return 0
        return msgspec.msgpack.decode(data, type=Line).taken

    async def _repeat(self, cut: Cut) -> None:
        step, kind = self._step, cut[0]
        if kind == TAKE:
            await self._take(cut[1])
        elif kind == SETTLE:
            step.settle_due(StepCounts())
        elif kind == COMMIT:
            self._store.commit(step.checkpoint_parts(None, ""))
        elif kind == WITHHELD:
            withheld = step.snapshot(0, "")
            if self._inspector is not None:
                self._inspector.inspect(withheld, self._parent)
            step.position.version -= 1
        elif kind == ANEW:
            raise CannotRelearn(
                f"version {step.position.version + 1} was begun anew (`learn --anew`): what came "
                "before it does not lead to it. Give a checkpoint of it or of a later one"
            )
        else:
            raise CannotRelearn(f"this code knows no cut {kind!r}")

    async def _take(self, offsets: Mapping[str, int]) -> None:
        position = self._step.position
        records: list[Taken] = []
        for source, end in offsets.items():
            first = position.offsets.get(source, 0)
            records += await self._reader.read(source, first, end)
        decisions, labels, _ = parse_records(self._rules, in_order(records))
        self._step.take(decisions, labels)
        position.offsets.update(offsets)

    def _compare(self, one: Shown) -> Compared:
        published = one.weights
        weights = self._step.snapshot(published.created_at_ms, published.code_version)
        weights = replace(weights, cuts=tuple(published.cuts))
        if self._inspector is not None:
            weights, _ = self._inspector.inspect(weights, self._parent)
        found = tuple(differences(published, weights))
        self._parent = published
        self._store.commit(self._step.checkpoint_parts(b"", one.sha256))
        return Compared(published.version, found)


def differences(one: Weights, other: Weights) -> Iterator[str]:
    """Say in what two versions differ; nothing if they are equal bit for bit."""
    for name in (
        "model",
        "version",
        "schema_digest",
        "parent_sha256",
        "offsets",
        "learned_until_ms",
        "labels_learned",
        "created_at_ms",
        "metrics",
        "code_version",
        "lanes",
        "members",
        "step",
    ):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine != theirs:
            yield f"{name}: {mine} and {theirs}"
    for name in sorted(one.arrays.keys() | other.arrays.keys()):
        yield from _array_differences(name, one, other)


def _array_differences(name: str, one: Weights, other: Weights) -> Iterator[str]:
    mine, theirs = one.arrays.get(name), other.arrays.get(name)
    if mine is None or theirs is None:
        yield f"{name}: only in the {'second' if mine is None else 'first'}"
    elif mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        yield f"{name}: {mine.dtype}{mine.shape} and {theirs.dtype}{theirs.shape}"
    elif mine.tobytes() != theirs.tobytes():
        apart = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
        count = int(np.count_nonzero(mine.view(np.int32) != theirs.view(np.int32)))
        yield f"{name}: {count} of {mine.size} numbers, by up to {np.nanmax(apart):.3g}"
