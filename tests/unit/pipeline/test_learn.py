"""Decisions and labels in, learning and transitions out: one step at a time."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from features.event import EventRejected, to_ms
from features.spec_values import Currency
from features.update import LabelTransition
from models.ensemble import Ensemble
from models.taught import Taught
from pipeline.decided import PlacedLabel, parse_decided, parse_placed_label
from pipeline.join import JoinRow
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.learn import LearnRules, LearnStep
from pipeline.step_ports import Company
from tests.builders_learn import DAY, DIGEST, FEATURES, RULES, START, a_decision, a_label
from tests.fakes_learner import SPACE, a_plan, make_in_memory

FAR_MS = 2**42


class Pupil(Ensemble):
    """An ensemble that writes down what it is taught."""

    def __init__(self) -> None:
        super().__init__(SPACE, a_plan(), 1, make_in_memory)
        self.seen = 0
        self.lessons: list[tuple[str, float, int]] = []
        self.unlearned: list[tuple[str, float, int]] = []
        self.importance: list[float] = []

    @property
    def taught(self) -> list[tuple[float, int]]:
        return [(x, y) for _, x, y in self.lessons]

    def observe_many(self, X: NDArray[np.float32], p: NDArray[np.float64]) -> None:
        self.seen += len(X)
        super().observe_many(X, p)

    def learn_many(self, lane: str, rows: Taught) -> None:
        pairs = zip(rows.X[:, 0].tolist(), rows.y.tolist(), strict=True)
        self.lessons += [(lane, x, y) for x, y in pairs]
        self.importance += rows.w.tolist()
        super().learn_many(lane, rows)

    def forget_many(self, lane: str, rows: Taught) -> None:
        pairs = zip(rows.X[:, 0].tolist(), rows.y.tolist(), strict=True)
        self.unlearned += [(lane, x, y) for x, y in pairs]
        super().forget_many(lane, rows)


class Desk:
    """A step with its store and its pupil."""

    def __init__(self, path: Path, **rules: int) -> None:
        self.store = SqliteJoinStore(path)
        self.pupil = Pupil()
        every = LearnRules(n_features=FEATURES, label_partitions=2, **rules)
        self.step = LearnStep(every, self.store, self.pupil, Company())
        self.step.restore()
        self.places = 0

    def take(self, *records: bytes) -> dict[str, int]:
        """Take decisions and labels; return the outcomes of both."""
        decisions: list[JoinRow] = []
        labels: list[PlacedLabel] = []
        for body in records:
            self.places += 1
            if b'"vector"' in body:
                decisions.append(parse_decided(body, self.places, DIGEST, FEATURES))
            else:
                labels.append(parse_placed_label(body, self.places, RULES, FAR_MS))
        counts = self.step.take(decisions, labels)
        return counts.decisions | counts.labels

    def transitions(self) -> list[tuple[str, str, int]]:
        """(event, label, sign) of what is in the outbox, in order of their making."""
        found = [msgspec.json.decode(o.body, type=LabelTransition) for o in self.store.outbox(999)]
        found.sort(key=lambda t: (t.event_id, int(t.transition_id.rpartition(":")[2])))
        return [(t.event_id, t.label, t.sign) for t in found]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "join.sqlite")
    yield desk
    desk.store.close()


def vector(first: float) -> NDArray[np.float32]:
    return np.array([first, *range(1, FEATURES)], np.float32)


def test_a_label_teaches_the_vector_that_was_scored(desk: Desk) -> None:
    assert desk.take(a_decision("e1", x=vector(3.5))) == {"joined": 1}
    assert not desk.step.learned_since_publish
    assert desk.take(a_label("e1", at=START + DAY)) == {"learned": 1}
    assert desk.pupil.taught == [(3.5, 1)]
    assert desk.transitions() == [("e1", "fraud", 1)]
    assert desk.step.learned_since_publish
    position = desk.step.position
    assert (position.labels_learned, position.learned_until_ms) == (1, to_ms(START + DAY))


def test_a_label_may_come_first_or_with_its_decision(desk: Desk) -> None:
    assert desk.take(a_label("e1")) == {"held": 1}
    assert desk.pupil.taught == []
    assert desk.take(a_decision("e1", x=vector(1)), a_label("e2"), a_decision("e2", x=vector(2)))
    assert sorted(desk.pupil.taught) == [(1.0, 1), (2.0, 1)]


def test_a_repeat_teaches_nothing(desk: Desk) -> None:
    desk.take(a_decision("e1"), a_label("e1"))
    assert desk.take(a_decision("e1", x=vector(9))) == {"repeated": 1}
    assert desk.take(a_label("e1", at=START - DAY)) == {"repeated": 1}
    assert len(desk.pupil.taught) == desk.pupil.seen == 1
    assert desk.step.position.labels_learned == 1


def test_a_second_source_that_agrees_teaches_nothing(desk: Desk) -> None:
    desk.take(a_decision("e1"), a_label("e1", at=START + DAY))
    assert desk.take(a_label("e1", source="issuer", at=START + 2 * DAY)) == {}
    assert desk.transitions() == [("e1", "fraud", 1)]
    assert len(desk.pupil.taught) == 1


def test_an_earlier_fraud_moves_the_label_time_without_teaching_again(desk: Desk) -> None:
    desk.take(a_decision("e1"), a_label("e1", at=START + 2 * DAY))
    desk.take(a_label("e1", source="issuer", at=START + DAY))
    assert desk.transitions() == [("e1", "fraud", 1), ("e1", "fraud", -1), ("e1", "fraud", 1)]
    assert len(desk.pupil.taught) == 1


def test_a_reversal_undoes(desk: Desk) -> None:
    desk.take(a_decision("e1"), a_label("e1"))
    outcomes = desk.take(a_label("e1", state="reversed", at=START + DAY))
    assert outcomes == {"withdrawn": 1}
    assert desk.transitions() == [("e1", "fraud", 1), ("e1", "fraud", -1)]
    assert desk.pupil.unlearned == [("delayed", 0.0, 1)]


def test_silence_is_legit_and_fraud_breaks_it(desk: Desk) -> None:
    desk.take(a_decision("old", START, vector(1)), a_decision("bad", START, vector(2)))
    desk.take(a_label("bad"))
    assert desk.take(a_decision("new", START + 7 * DAY - timedelta(milliseconds=1))) == {
        "joined": 1
    }
    assert desk.take(a_decision("newer", START + 7 * DAY)) == {"joined": 1, "silent": 1}
    assert desk.pupil.taught == [(2.0, 1), (1.0, 0)]
    assert desk.take(a_label("old", at=START + 9 * DAY)) == {
        "learned": 1,
        "withdrawn": 1,
        "late": 1,
    }
    assert desk.pupil.taught[-1] == (1.0, 1)
    assert desk.transitions() == [
        ("bad", "fraud", 1),
        ("old", "legit", 1),
        ("old", "legit", -1),
        ("old", "fraud", 1),
    ]


def test_a_suspicion_breaks_the_silence_and_its_reversal_restores_it(desk: Desk) -> None:
    desk.take(a_decision("e1"), a_label("e1", state="suspected"))
    assert desk.take(a_decision("e2", START + 8 * DAY)) == {"joined": 1}
    assert desk.take(a_label("e1", state="reversed", at=START + DAY)) == {"learned": 1}
    assert desk.transitions() == [("e1", "legit", 1)]


def test_an_event_that_is_decided_late_matures_at_once(desk: Desk) -> None:
    desk.take(a_decision("e1", START + 20 * DAY))
    assert desk.take(a_decision("e0", START)) == {"joined": 1, "silent": 1}


def test_the_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "other.sqlite", sweep_rows_max=3)
    decisions = [a_decision(f"e{i}", START, vector(i)) for i in range(7)]
    assert desk.take(*decisions, a_decision("e9", START + 8 * DAY))["silent"] == 3
    rounds = 0
    while desk.step.more_due:
        desk.take()
        rounds += 1
    assert rounds == 2
    assert sorted(x for x, _ in desk.pupil.taught) == [0, 1, 2, 3, 4, 5, 6]
    desk.store.close()


def test_without_a_silence_only_labels_teach(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "other.sqlite", legit_after_ms=0)
    desk.take(a_decision("e1"), a_decision("e2", START + 30 * DAY))
    desk.take(a_label("e1", "legit"))
    assert desk.pupil.taught == [(0.0, 0)]
    assert desk.step.figures()["judged"] == 1
    desk.take(a_label("e1", "fraud", source="customer"))
    assert desk.step.figures()["judged"] == 1
    desk.store.close()


def test_what_cannot_be_learned_is_joined_all_the_same(desk: Desk) -> None:
    short = np.zeros(FEATURES - 1, np.float32)
    outcomes = desk.take(a_decision("e1", digest="f" * 64), a_decision("e2", x=short))
    assert outcomes == {"joined": 2, "not_learnable": 2}
    assert desk.take(a_label("e1"), a_label("e2")) == {"learned": 2}
    assert (desk.pupil.seen, desk.pupil.taught) == (0, [])
    assert desk.transitions() == [("e1", "fraud", 1), ("e2", "fraud", 1)]


def test_infinity_is_taken_as_missing(desk: Desk) -> None:
    desk.take(a_decision("e1", x=vector(np.inf)), a_label("e1"))
    (first, _), *_ = desk.pupil.taught
    assert np.isnan(first)


def test_old_rows_and_labels_leave(desk: Desk) -> None:
    desk.take(a_decision("e1"), a_label("nobody"))
    outcomes = desk.take(a_decision("e2", START + 50 * DAY))
    assert outcomes == {"joined": 1, "silent": 1, "expired": 1, "unmatched": 1}
    assert desk.take(a_label("e1")) == {"held": 1}


def test_predictions_are_judged_when_events_mature(desk: Desk) -> None:
    """Frauds known early are judged no earlier than the legit events of their day."""
    scores: Sequence[float | None] = (0.9, 0.8, 0.1, None)
    for index, p in enumerate(scores):
        desk.take(a_decision(f"e{index}", START, p=p, amount=100 * (index + 1)))
    desk.take(a_label("e0"), a_label("e2"))
    assert desk.step.figures() == {}
    desk.take(a_decision("e9", START + 8 * DAY))
    figures = desk.step.figures()
    assert figures["judged"] == 3
    assert figures["fraud_rate"] == pytest.approx(2 / 3)
    assert figures["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["roc_auc"] == pytest.approx(0.5)
    assert figures["value_detection_at_half_percent"] == pytest.approx(0.25)


def test_amounts_of_other_currencies_are_kept_in_the_base_currency() -> None:
    body = a_decision("e1", amount=1001)
    rates = {"EUR": Currency(1, 1), "USD": Currency(1, 2)}
    assert parse_decided(body, 0, DIGEST, FEATURES, RULES, rates).amount == 1001
    dollars = body.replace(b'"EUR"', b'"USD"')
    assert parse_decided(dollars, 0, DIGEST, FEATURES, RULES, rates).amount == 500  # half to even
    negative = a_decision("e2", amount=-1003).replace(b'"EUR"', b'"USD"')
    assert parse_decided(negative, 0, DIGEST, FEATURES, RULES, rates).amount == -502


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'{"tenant": 3}', b"\xff", b"[]"])
def test_what_is_no_decision_is_rejected(body: bytes) -> None:
    with pytest.raises(EventRejected):
        parse_decided(body, 0, DIGEST, FEATURES)


def test_a_version_names_where_it_stands(desk: Desk) -> None:
    desk.take(a_decision("e1"), a_label("e1", at=START + DAY))
    desk.step.position.offsets = {"labels.v1:0": 4}
    weights = desk.step.snapshot(17, "build")
    assert (weights.version, weights.labels_learned, weights.created_at_ms) == (1, 1, 17)
    assert (weights.offsets, weights.learned_until_ms) == ({"labels.v1:0": 4}, to_ms(START + DAY))
    assert desk.step.position.version == 1
