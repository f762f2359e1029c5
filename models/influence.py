"""labelled rows, by source and entity → which of them may be learned: no key fills a version.

Shares of an entity are held over two spans: the version under way, and the newest `memory_rows` of
learned weight, so that neither a flood nor a trickle in quiet hours carries more than its share.
Those of a source are held over the second only: a version of a second often has one source alone.
What silence says has no source, and rows without an entity have none: they are never capped.

Rows are left out whole and not weighted down: a step of Adam is as long for a batch of light rows
as for one of heavy ones. Those that come first are learned: no draw that a sender could foresee.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.label_rates import SILENT

BUCKETS = 4_096
"""Entities are counted by hash; two that share a bucket share a cap."""
SOURCES_MAX = 64
"""Further sources are counted as one."""
ROUNDS_MAX = 60
ROUNDING = 1e-6
"""Part of a row by which sums of float64 may miss a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluenceRules:
    """What one key may carry.

    Attributes:
        entity_share: Largest share of learned weight of one entity, in (0, 1].
        entity_free: Weight that any entity may carry in each span, however small the rest is.
        source_share: Largest share of a label source that is new or usually small.
        source_growth: A source may carry so many times its usual share, if that is more.
        source_free: Weight that any source may carry of the newest `memory_rows`.
        memory_rows: Learned weight that shares are held over, beside the version's own.
        usual_rows: Offered weight over which a source's usual share is averaged.
        warm_rows: Learned weight before sources are capped: first their shares must be known.
    """

    entity_share: float = 0.05
    entity_free: float = 16.0
    source_share: float = 0.25
    source_growth: float = 2.0
    source_free: float = 256.0
    memory_rows: float = 8_192.0
    usual_rows: float = 100_000.0
    warm_rows: float = 5_000.0


class _State(msgspec.Struct):
    sources: list[str]
    usual: list[float]
    offered: float
    learned: float
    left_out: list[int]


class Influence:
    """Who carried how much of what was learned; a function of the calls made to it."""

    def __init__(self, rules: InfluenceRules) -> None:
        """Begin with empty books."""
        self._rules = rules
        self._names: dict[str, int]
        self._reset()

    def admit(
        self,
        sources: Sequence[str],
        cards: NDArray[np.int64],
        w: NDArray[np.float32],
    ) -> NDArray[np.bool_]:
        """Return which rows may be learned, shape (m,), and book those.

        Args:
            sources: Who labelled; those of `SILENT` are nobody.
            cards: Hash of the primary entity, any int64; 0 for none.
            w: Importance.
        """
        if not len(w):
            return np.ones(0, np.bool_)
        weight = w.astype(np.float64)
        places = np.array([self._place_of(source) for source in sources])
        buckets = np.where(cards == 0, 0, cards % (BUCKETS - 1) + 1)
        rules = self._rules
        share = np.full(BUCKETS, rules.entity_share)
        allowed = _allowed(self._cards, buckets, weight, share, rules.entity_free)
        by_card = first_within(buckets, weight, allowed)
        self.left_out_by_entity += int((~by_card).sum())
        offered = weight * by_card
        shares = self._source_shares()
        allowed = _allowed(self._sources[1:], places, offered, shares, rules.source_free)
        kept = by_card & first_within(places, offered, allowed)
        self.left_out_by_source += int(by_card.sum() - kept.sum())
        self._book(buckets, places, weight, kept)
        return np.asarray(kept)

    def close_version(self) -> None:
        """Begin the next version's books; the long ones fade beyond `memory_rows`."""
        for books in (self._cards, self._sources):
            books[0] = 0.0
            total = float(books[1].sum())
            if total > self._rules.memory_rows:
                books[1] *= self._rules.memory_rows / total

    def counts(self) -> dict[str, int]:
        """Return how many rows were left out since the beginning, by the kind of their key."""
        return {"entity": self.left_out_by_entity, "source": self.left_out_by_source}

    def state_changes(self) -> dict[str, bytes]:
        """Return the whole state, by name."""
        state = _State(
            [name for name in self._names if name not in SILENT],
            self._usual.tolist(),
            self._offered,
            self._learned,
            [self.left_out_by_entity, self.left_out_by_source],
        )
        held = np.flatnonzero(self._cards.any(axis=0))
        return {
            "core": msgspec.msgpack.encode(state),
            "sources": self._sources.tobytes(),
            "cards": held.tobytes() + self._cards[:, held].tobytes(),
        }

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Become the one whose parts these are; no parts: a new one."""
        self._reset()
        if "core" not in parts:
            return
        state = msgspec.msgpack.decode(parts["core"], type=_State)
        self._names |= {name: place for place, name in enumerate(state.sources, 1)}
        self._usual = np.array(state.usual)
        self._offered, self._learned = state.offered, state.learned
        self.left_out_by_entity, self.left_out_by_source = state.left_out
        self._sources = np.frombuffer(parts["sources"]).reshape(2, -1).copy()
        body = parts["cards"]
        count = len(body) // 24
        held = np.frombuffer(body, np.int64, count)
        self._cards[:, held] = np.frombuffer(body, np.float64, offset=8 * count).reshape(2, count)

    def _reset(self) -> None:
        self._names = dict.fromkeys(SILENT, 0)
        self._usual = np.zeros(SOURCES_MAX)
        self._offered = self._learned = 0.0
        self._cards = np.zeros((2, BUCKETS))  # the version's, the long ones
        self._sources = np.zeros((2, SOURCES_MAX))
        self.left_out_by_entity = self.left_out_by_source = 0

    def _place_of(self, source: str) -> int:
        if source not in self._names and len(self._names) < SOURCES_MAX:
            self._names[source] = len(self._names) - len(SILENT) + 1
        return self._names.get(source, SOURCES_MAX - 1)

    def _source_shares(self) -> NDArray[np.float64]:
        """Return what each source may carry: more for those that usually do."""
        if self._learned < self._rules.warm_rows:
            return np.ones(SOURCES_MAX)
        whole = max(float(self._usual.sum()), 1e-9)
        grown = self._rules.source_growth * self._usual / whole
        return np.minimum(np.maximum(grown, self._rules.source_share), 1.0)

    def _book(
        self,
        buckets: NDArray[np.int64],
        places: NDArray[np.int64],
        weight: NDArray[np.float64],
        kept: NDArray[np.bool_],
    ) -> None:
        learned = weight * kept
        self._cards += np.bincount(buckets, learned, minlength=BUCKETS)
        self._sources += np.bincount(places, learned, minlength=SOURCES_MAX)
        self._learned += float(learned.sum())
        offered = float(weight.sum())
        self._usual *= max(0.0, 1.0 - offered / self._rules.usual_rows)
        self._usual += np.bincount(places, weight, minlength=SOURCES_MAX) / self._rules.usual_rows


def level_of(
    offered: NDArray[np.float64],
    share: NDArray[np.float64],
    free: float,
    rounds: int = ROUNDS_MAX,
) -> NDArray[np.float64]:
    """Return what each key may carry of what all may carry together; key 0 carries all it has.

    The largest totals T with: carried_i = min(offered_i, max(free, share_i · T)), T = Σ carried.
    So two keys that flood at once do not make room for each other.
    """
    total = float(offered.sum())
    carried = offered
    for _ in range(rounds):
        capped = np.where(share < 1, share * total, np.inf)
        carried = np.minimum(offered, np.maximum(free, capped))
        carried[0] = offered[0]
        excess = total - float(carried.sum())
        if abs(excess) <= 1e-9 * total:
            break
        # those at their share shrink with the total: follow them down at once (Newton)
        slope = float(share[1:][(capped < offered)[1:] & (capped > free)[1:]].sum())
        total -= excess / (1 - slope) if slope < 1 and excess > 0 else excess
    return carried


def first_within(
    keys: NDArray[np.int64], weight: NDArray[np.float64], allowed: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which rows are the first of their key, in order, that fit into what it is allowed."""
    order = np.argsort(keys, kind="stable")
    total = np.cumsum(weight[order])
    begins = np.flatnonzero(np.diff(keys[order], prepend=-1))
    before = np.repeat(np.append(0.0, total)[begins], np.diff(np.append(begins, len(keys))))
    fits = np.empty(len(keys), np.bool_)
    fits[order] = total - before <= allowed[keys[order]] + ROUNDING
    return fits


def _allowed(
    books: NDArray[np.float64],
    keys: NDArray[np.int64],
    weight: NDArray[np.float64],
    share: NDArray[np.float64],
    free: float,
) -> NDArray[np.float64]:
    """Return per key the new weight that may be learned by all of the books; key 0 has no limit."""
    new = np.bincount(keys, weight, minlength=books.shape[1])
    rest = [level_of(book + new, share, free) - book for book in books]
    allowed = np.maximum(np.min(rest, axis=0), 0.0)
    allowed[0] = np.inf
    return np.asarray(allowed)
