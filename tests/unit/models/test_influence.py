"""What one source or one entity teaches is a share, whatever it sends and however it sends it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.influence import Influence, InfluenceRules, first_within, level_of

RULES = InfluenceRules(
    entity_share=0.05,
    entity_free=16,
    source_share=0.25,
    source_free=64,
    memory_rows=4_000,
    usual_rows=20_000,
    warm_rows=1_000,
)


def admit(influence: Influence, source: str, cards: NDArray[np.int64]) -> NDArray[np.bool_]:
    count = len(cards)
    return influence.admit([source] * count, cards, np.ones(count, np.float32))


def many_cards(count: int, first: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(first).integers(-(2**62), 2**62, count) | 1


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0, 1e4), min_size=2, max_size=30),
    st.floats(0.01, 0.6),
    st.floats(0, 50),
)
def test_nobody_carries_more_than_a_share_of_what_is_carried(
    offered: list[float], share: float, free: float
) -> None:
    given_ = np.array(offered)
    carried = level_of(given_, np.full(len(given_), share), free)
    assert (carried <= given_ + 1e-9).all()
    assert carried[0] == given_[0]  # nobody's rows
    limit = max(free, share * carried.sum())
    assert (carried[1:] <= limit * (1 + 1e-6) + 1e-5).all()
    left_out = carried[1:] < given_[1:] * (1 - 1e-9)
    assert (carried[1:][left_out] >= min(limit, free) * (1 - 1e-6) - 1e-5).all()


def test_a_flood_of_one_card_is_a_share_of_the_version() -> None:
    influence = Influence(RULES)
    honest = admit(influence, "manual_review", many_cards(2_000))
    assert honest.all()
    flood = admit(influence, "manual_review", np.full(5_000, 77))
    # c = 0.05 · (2000 + c)
    assert flood.sum() == pytest.approx(0.05 / 0.95 * 2_000, abs=2)
    assert influence.counts() == {"entity": 5_000 - int(flood.sum()), "source": 0}


def test_a_flood_in_a_quiet_hour_is_a_handful_of_rows_and_a_trickle_is_no_way_around() -> None:
    influence = Influence(RULES)
    assert admit(influence, "", np.full(3_000, 0)).all()
    influence.close_version()
    assert admit(influence, "manual_review", np.full(5_000, 77)).sum() == 16
    learned = 0
    for _ in range(400):
        influence.close_version()
        learned += int(admit(influence, "manual_review", np.full(10, 77)).sum())
    assert learned <= 0.05 / 0.95 * 3_000 + 1


def test_two_floods_make_no_room_for_each_other() -> None:
    influence = Influence(RULES)
    admit(influence, "", many_cards(1_000))
    cards = np.repeat([77, 78], 5_000)
    both = admit(influence, "manual_review", cards)
    for part in (both[:5_000], both[5_000:]):
        assert part.sum() == pytest.approx(0.05 / 0.9 * 1_000, abs=2)


def test_a_small_source_cannot_become_a_large_one_at_once_and_a_large_one_is_left_alone() -> None:
    influence = Influence(RULES)
    for version in range(20):
        influence.close_version()
        assert admit(influence, "chargeback", many_cards(400, version)).all()
        admit(influence, "silence", many_cards(600, 50 + version))
    assert influence.counts()["source"] == 0
    influence.close_version()
    flood = admit(influence, "partner", many_cards(5_000, 99))
    assert flood.sum() <= max(64, 0.25 / 0.75 * 4_000) + 1
    assert influence.counts()["source"] == 5_000 - flood.sum()
    influence.close_version()
    assert admit(influence, "chargeback", many_cards(400, 7)).all()


def test_a_source_that_is_alone_from_now_on_is_heard_in_the_end() -> None:
    influence = Influence(RULES)
    for version in range(10):
        influence.close_version()
        admit(influence, "old", many_cards(400, version))
    shares = []
    for version in range(40):
        influence.close_version()
        shares.append(admit(influence, "new", many_cards(3_000, 1_000 + version)).mean())
    assert min(shares[:10]) < 0.5
    assert np.mean(shares[-10:]) == 1


def test_before_shares_are_known_sources_are_not_capped() -> None:
    influence = Influence(RULES)
    assert admit(influence, "manual_review", many_cards(900)).all()


def test_the_same_rows_are_left_out_again_after_a_restart() -> None:
    one, parts = Influence(RULES), {}
    for version in range(5):
        admit(one, "manual_review", many_cards(300, version))
        admit(one, "customer", np.full(300, 5))
        one.close_version()
        parts |= one.state_changes()
    other = Influence(RULES)
    other.restore(parts)
    for source, cards in (("customer", np.full(300, 5)), ("partner", many_cards(9_000))):
        assert admit(one, source, cards).tolist() == admit(other, source, cards).tolist()
    assert one.state_changes() == other.state_changes()
    assert one.counts() == other.counts() != {"entity": 0, "source": 0}


def test_sources_beyond_the_limit_share_a_place_and_no_rows_are_no_question() -> None:
    influence = Influence(RULES)
    for number in range(100):
        assert admit(influence, f"s{number}", many_cards(3, number)).all()
    assert not len(admit(influence, "x", np.zeros(0, np.int64)))
    assert len(influence.state_changes()["core"]) < 3_000


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0.1, 3)), min_size=1, max_size=40))
def test_the_first_rows_of_a_key_are_those_that_fit(rows: list[tuple[int, float]]) -> None:
    allowed = np.array([np.inf, 0.0, 2.0, 5.0, 1e9])
    keys = np.array([key for key, _ in rows])
    weight = np.array([w for _, w in rows])
    kept = first_within(keys, weight, allowed)
    taken = [0.0] * 5
    for key, w, fits in zip(keys.tolist(), weight.tolist(), kept.tolist(), strict=True):
        taken[key] += w
        assert fits == (taken[key] <= allowed[key] + 1e-6)


def test_stopped_early_a_level_is_too_high_and_never_too_low() -> None:
    offered = np.array([100.0, 5_000.0, 30.0, 4_000.0])
    share = np.full(4, 0.2)
    exact = level_of(offered, share, 1.0)
    assert exact.sum() == pytest.approx(130 / 0.6)
    early = level_of(offered, share, 1.0, rounds=1)
    assert (early >= exact).all()
    assert early.sum() > exact.sum()


def test_an_empty_checkpoint_is_a_new_book() -> None:
    influence = Influence(RULES)
    admit(influence, "partner", np.full(500, 5))
    influence.restore({})
    assert influence.state_changes() == Influence(RULES).state_changes()
