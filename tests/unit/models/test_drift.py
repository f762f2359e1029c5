"""ADWIN finds a shift that was planted, keeps quiet without one, and goes on where it stopped."""

from typing import Any, cast

import msgspec
import numpy as np
import pytest
from river.drift import ADWIN

from models.drift import Watched
from models.drift_river import Adwin
from models.learner import StateMismatch

SIGNIFICANCE = 0.002


def a_stream(seed: int, count: int, mean: float) -> list[float]:
    return np.random.default_rng(seed).beta(20 * mean, 20 * (1 - mean), count).tolist()


@pytest.mark.parametrize("seed", range(10))
def test_a_planted_shift_is_found_soon(seed: int) -> None:
    watched = Watched(Adwin(SIGNIFICANCE), 8)
    assert watched.update_many(a_stream(seed, 20_000, 0.2)) == []
    finding = watched.update_many(a_stream(seed + 100, 3_000, 0.25))
    assert finding
    assert finding[0].before < 0.22
    assert watched.found == len(finding)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_rivers_own_detector(seed: int) -> None:
    ours, make = Adwin(SIGNIFICANCE), cast(Any, ADWIN)
    theirs = make(delta=SIGNIFICANCE)
    means = np.random.default_rng(seed).uniform(0.1, 0.9, 8)
    values = [x for i, mean in enumerate(means) for x in a_stream(10 * seed + i, 700, mean)]
    detected = 0
    for value in values:
        before = theirs.estimation
        theirs.update(value)
        found = ours.update_many([value])
        assert bool(found) == theirs.drift_detected
        if found:
            assert (found[0].before, found[0].after) == (before, value)
        assert (ours.mean, ours.width) == (theirs.estimation, theirs.width)
        detected += theirs.drift_detected
    assert detected >= 5


def test_without_a_shift_it_keeps_quiet() -> None:
    """δ bounds false alarms per test; here at most one in 100 runs of 20 000 rows is allowed."""
    alarms = 0
    for seed in range(100):
        watched = Watched(Adwin(SIGNIFICANCE), 8)
        watched.update_many(a_stream(1_000 + seed, 20_000, 0.2))
        alarms += watched.found > 0
    assert alarms <= 1


def test_a_fall_of_precision_is_found() -> None:
    watched = Watched(Adwin(SIGNIFICANCE), 1)
    rng = np.random.default_rng(3)
    assert watched.update_many((rng.uniform(size=3_000) < 0.6).astype(float).tolist()) == []
    finding = watched.update_many((rng.uniform(size=1_000) < 0.3).astype(float).tolist())
    assert finding
    assert watched.mean < 0.45


@pytest.mark.parametrize("cut", [0, 1, 37, 5_000, 20_013, 20_640])
def test_it_goes_on_from_its_state_bit_for_bit(cut: int) -> None:
    values = a_stream(1, 20_000, 0.2) + a_stream(2, 3_000, 0.4) + a_stream(3, 3_000, 0.2)
    whole = Watched(Adwin(SIGNIFICANCE), 8)
    whole.update_many(values)
    first = Watched(Adwin(SIGNIFICANCE), 8)
    first.update_many(values[:cut])
    second = Watched(Adwin(SIGNIFICANCE), 8)
    second.restore(first.state())
    second.update_many(values[cut:])
    assert msgspec.msgpack.encode(second.state()) == msgspec.msgpack.encode(whole.state())
    assert whole.found >= 2
    assert second.width == whole.width > 0


def test_a_window_is_logarithmic_in_memory() -> None:
    sizes = []
    for count in (1_000, 100_000):
        adwin = Adwin(SIGNIFICANCE)
        adwin.update_many(a_stream(1, count, 0.2))
        sizes.append(len(adwin.dumps()))
    assert sizes[1] < 3 * sizes[0] < 9_000


def test_a_state_of_another_detector_is_refused() -> None:
    adwin = Adwin(SIGNIFICANCE)
    adwin.update_many(a_stream(1, 100, 0.2))
    state = adwin.dumps()
    with pytest.raises(StateMismatch, match=r"δ 0\.002; in use is .* δ 0\.1"):
        Adwin(0.1).loads(state)
    broken = msgspec.msgpack.decode(state)
    broken["body"] = broken["body"][:-4] + b"0000"
    with pytest.raises(StateMismatch, match="damaged"):
        adwin.loads(msgspec.msgpack.encode(broken))
    with pytest.raises(StateMismatch, match="drift detector"):
        adwin.loads(b"nonsense")
