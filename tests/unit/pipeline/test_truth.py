"""Each net label reaches the right lanes exactly once, in whatever order the world tells it."""

import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.ensemble import Ensemble
from models.taught import Taught
from pipeline.decided import parse_decided, parse_placed_label
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.judged import Judged
from pipeline.learn import LearnRules, LearnStep
from pipeline.step_ports import Company
from pipeline.truth import PROPENSITY_WEIGHT_MAX
from tests.builders_learn import DAY, DIGEST, FEATURES, RULES, START, a_decision, a_label
from tests.fakes_learner import SPACE, a_plan, make_in_memory

FAR_MS = 2**42
FEEDBACK = {"manual_review", "customer"}
OUTCOMES = (("approve", 1.0), ("approve", 0.02), ("decline", 1.0), ("decline", 0.98), ("review", 1))


class Desk:
    """A step that writes down what its lanes believe: (lane, event) → label, with importance."""

    def __init__(self, folder: Path, **company: Any) -> None:
        self.believed: dict[tuple[str, int], tuple[int, float]] = {}
        self.times_taught: Counter[tuple[str, int, int]] = Counter()
        desk = self

        class Pupil(Ensemble):
            def learn_many(self, lane: str, rows: Taught) -> None:
                for event, y, w in zip(_events(rows), rows.y.tolist(), rows.w, strict=True):
                    assert (lane, event) not in desk.believed, "taught twice"
                    desk.believed[lane, event] = (y, float(w))
                    desk.times_taught[lane, event, y] += 1
                super().learn_many(lane, rows)

            def forget_many(self, lane: str, rows: Taught) -> None:
                for event, y in zip(_events(rows), rows.y.tolist(), strict=True):
                    assert desk.believed.pop((lane, event))[0] == y, "forgot what it never learned"
                super().forget_many(lane, rows)

        self.store = SqliteJoinStore(folder / "join.sqlite")
        rules = LearnRules(n_features=FEATURES, label_partitions=1)
        ensemble = Pupil(SPACE, a_plan(), 1, make_in_memory)
        self.step = LearnStep(rules, self.store, ensemble, Company(**company))
        self.step.restore()
        self.place = 0

    def take(self, *bodies: bytes) -> None:
        decisions, labels = [], []
        for body in bodies:
            self.place += 1
            if b'"vector"' in body:
                row = parse_decided(body, self.place, DIGEST, FEATURES, RULES)
                decisions.append(row)
            else:
                labels.append(parse_placed_label(body, self.place, RULES, FAR_MS))
        self.step.take(decisions, labels)


def _events(rows: Taught) -> list[int]:
    return [int(x) for x in rows.X[:, 0]]


def decision(event: int, day: float = 0.0, outcome: str = "approve", q: float = 1.0) -> bytes:
    x: NDArray[np.float32] = np.full(FEATURES, event, np.float32)
    return a_decision(f"e{event}", START + timedelta(days=day), x, outcome=outcome, propensity=q)


LABELS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["chargeback", "manual_review", "customer", "issuer"]),
        st.sampled_from(["fraud", "legit"]),
        st.sampled_from(["confirmed", "confirmed", "suspected", "reversed"]),
        st.integers(0, 6),
    ),
    max_size=10,
    unique_by=lambda label: (label[0], label[1], label[4]),  # one word of a source at a time
)


def truth_by_hand(labels: list[Any], kinds: list[int], matured: bool) -> dict[tuple[str, int], Any]:
    """The rules of docs/learning.md, applied to the set of all labels at once."""
    found = {}
    for event, kind in enumerate(kinds):
        outcome, q = OUTCOMES[kind]
        newest = {}
        for _, source, label, state, _at in sorted(
            (one for one in labels if one[0] == event), key=lambda one: one[4]
        ):
            newest[source] = (label, state)
        confirmed = {s: label for s, (label, state) in newest.items() if state == "confirmed"}
        suspected = any(state == "suspected" and la == "fraud" for la, state in newest.values())
        if "fraud" in confirmed.values():
            net = 1
        elif "legit" in confirmed.values() or (matured and outcome != "decline" and not suspected):
            net = 0
        else:
            continue
        if outcome != "approve" and q < 1:
            continue
        w = min(1 / q, PROPENSITY_WEIGHT_MAX) if outcome == "approve" else 1.0
        if FEEDBACK & confirmed.keys():
            found["feedback", event] = (net, pytest.approx(w))
        late_fraud = any(la == "fraud" and s not in FEEDBACK for s, la in confirmed.items())
        if matured or late_fraud:
            found["delayed", event] = (net, pytest.approx(w))
    return found


@settings(deadline=None, max_examples=60)
@given(
    LABELS,
    st.lists(st.integers(0, 4), min_size=5, max_size=5),
    st.booleans(),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_lanes_believe_what_the_set_of_labels_says_whatever_came_first(
    labels: list[Any], kinds: list[int], matured: bool, batch: int, chance: Any
) -> None:
    """Decisions, labels, repeats, reversals and maturity, shuffled and cut into takes anyhow."""
    bodies = [decision(event, 0.0, *OUTCOMES[kind]) for event, kind in enumerate(kinds)]
    bodies += [
        a_label(f"e{event}", label, START + at * DAY, source, state)
        for event, source, label, state, at in labels
    ]
    bodies += bodies[: len(bodies) // 2]  # repeats
    if matured:
        bodies.append(decision(99, 8.0))
    chance.shuffle(bodies)
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        for start in range(0, len(bodies), batch):
            desk.take(*bodies[start : start + batch])
        desk.take()
        desk.store.close()
    believed = {key: value for key, value in desk.believed.items() if key[1] != 99}
    assert believed == truth_by_hand(labels, kinds, matured)


def test_a_fraud_found_by_both_is_taught_to_each_lane_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.take(decision(1), a_label("e1", source="manual_review"))
    assert desk.believed == {("feedback", 1): (1, 1.0)}
    desk.take(a_label("e1", source="chargeback", at=START + 2 * DAY))
    desk.take(decision(99, 8.0))
    desk.take(decision(100, 8.1))
    assert desk.times_taught["feedback", 1, 1] == desk.times_taught["delayed", 1, 1] == 1
    desk.store.close()


def test_a_chargeback_corrects_the_analyst_in_both_lanes(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.take(decision(1), a_label("e1", "legit", source="manual_review"))
    desk.take(a_label("e1", "fraud", source="chargeback", at=START + 3 * DAY))
    assert desk.believed == {("feedback", 1): (1, 1.0), ("delayed", 1): (1, 1.0)}
    desk.store.close()


def test_what_was_let_through_on_purpose_stands_for_what_was_stopped(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    kinds = [("approve", 0.05), ("decline", 0.95), ("decline", 1.0), ("approve", 0.001)]
    desk.take(*[decision(event, 0.0, *kind) for event, kind in enumerate(kinds)])
    desk.take(decision(99, 8.0))
    assert {event: value for (_, event), value in desk.believed.items()} == {
        0: (0, pytest.approx(20.0)),
        3: (0, PROPENSITY_WEIGHT_MAX),
    }
    desk.store.close()


class MemorySink:
    """`JudgeSink` on a list."""

    def __init__(self) -> None:
        self.rows: list[Judged] = []

    def restore(self) -> None:
        self.rows = []

    def add_many(self, rows: Any) -> None:
        self.rows += rows


def test_what_is_judged_is_what_was_believed_when_it_was_decided(tmp_path: Path) -> None:
    sink = MemorySink()
    desk = Desk(tmp_path, sink=sink)
    desk.take(decision(1, 0.0), decision(2, 0.0, "decline"), decision(3, 0.0, "approve", 0.5))
    ensemble = desk.step._ensemble
    x = np.full((1, FEATURES), 1, np.float32)
    for event in range(10, 60):
        desk.take(decision(event), a_label(f"e{event}", source="manual_review"))
    desk.step.snapshot(1, "test")
    now = ensemble.predict_each(x)
    desk.take(a_label("e1", source="issuer"), decision(99, 8.0))
    judged = {row.name.split("\x1f")[-1]: row for row in sink.rows}
    assert "e2" not in judged, "what was stopped has no outcome"
    row = judged["e1"]
    assert (row.y, row.p, row.amount, row.lane_source) == (1, 0.1, 1000, "issuer")
    assert (row.outcome, row.propensity, judged["e3"].propensity) == ("approve", 1.0, 0.5)
    assert row.card != 0 and row.card != judged["e3"].card
    then = np.frombuffer(row.beliefs, "<f4")
    assert then == pytest.approx(np.log(0.01 / 0.99), abs=1e-5)
    assert abs(now[0, 0] - then[0]) > 0.1
    desk.take(decision(101, 9.0))
    assert len(sink.rows) == len({row.key for row in sink.rows})
    desk.store.close()


class MemoryInfluence:
    """`Influence` that refuses a source."""

    def __init__(self, refused: str) -> None:
        self.refused, self.versions = refused, 0

    def admit(self, sources: Any, cards: Any, w: Any) -> NDArray[np.bool_]:
        return np.array([source != self.refused for source in sources])

    def close_version(self) -> None:
        self.versions += 1

    def state_changes(self) -> dict[str, bytes]:
        return {"versions": str(self.versions).encode()}

    def restore(self, parts: Any) -> None:
        self.versions = int(parts.get("versions", b"0"))


def test_rows_that_are_not_admitted_are_not_learned_and_nothing_of_them_is_forgotten(
    tmp_path: Path,
) -> None:
    influence = MemoryInfluence("customer")
    desk = Desk(tmp_path, influence=influence)
    desk.take(decision(1), decision(2))
    desk.take(a_label("e1", source="customer"), a_label("e2", source="manual_review"))
    assert desk.believed == {("feedback", 2): (1, 1.0)}
    desk.take(a_label("e1", source="customer", state="reversed", at=START + DAY))
    desk.step.snapshot(1, "test")
    assert influence.versions == 1
    desk.store.commit(desk.step.checkpoint_parts(None, ""))
    influence.versions = 7
    desk.step.restore()
    assert influence.versions == 1
    desk.store.close()
