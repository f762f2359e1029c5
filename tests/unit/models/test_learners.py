"""Learners are found by name among what is installed; a user's package adds one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.learners import UnknownLearner, installed, load, make
from models.thinning import survives
from tests.builders_rows import LaneOf, some_rows

CODE = """
import numpy as np
from models.learner import Part

class Coin:
    def __init__(self, context):
        self.n = context.space.n

    def predict_many(self, X, z):
        return np.zeros(len(X), np.float32)

    def snapshot(self):
        return Part("linear", {"linear": np.zeros(self.n, np.float32),
                               "bias": np.zeros(1, np.float32)})

no_function = 3
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lays out a package as an installer does, in a folder that Python searches."""

    def installing(package: str, points: dict[str, str]) -> None:
        about = tmp_path / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (about / "entry_points.txt").write_text("\n".join(["[riskbeat.learners]", *lines]) + "\n")
        (tmp_path / f"{package}_module.py").write_text(CODE)
        monkeypatch.syspath_prepend(str(tmp_path))

    return installing


def test_ours_are_installed() -> None:
    assert {"network", "logistic", "hoeffding", "forest", "boosted"} <= set(installed())


def test_a_users_package_adds_one(install: Install) -> None:
    install("acme", {"coin": "acme_module:Coin"})
    assert installed()["coin"] == "acme_module:Coin"
    learner = make("coin", LaneOf().context)
    rows = some_rows(5)
    assert learner.predict_many(rows.X, rows.z).tolist() == [0.0] * 5
    assert learner.snapshot().kind == "linear"


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(UnknownLearner, match=r"no learner 'coin'; installed are boosted, forest"):
        load("coin")


def test_two_packages_with_one_name_are_refused(install: Install) -> None:
    install("acme", {"coin": "acme_module:Coin"})
    install("other", {"coin": "other_module:Coin"})
    with pytest.raises(UnknownLearner, match=r"more than once: acme_module:Coin, other_module"):
        load("coin")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("gone_module:Coin", "does not load: No module named 'gone_module'"),
        ("broken_module:Nothing", "does not load: .*has no attribute 'Nothing'"),
        ("broken_module:no_function", "cannot be called"),
    ],
)
def test_one_that_does_not_load_is_named(install: Install, value: str, told: str) -> None:
    install("broken", {"coin": value})
    with pytest.raises(UnknownLearner, match=f"learner 'coin' .*{told}"):
        load("coin")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_thinning_keeps_its_share_and_asks_identity_alone(share: float) -> None:
    ids = np.arange(100_000, dtype=np.uint64)
    kept = survives(ids, share, 1)
    assert kept.mean() == pytest.approx(share, rel=0.05)
    assert (survives(ids[::7], share, 1) == kept[::7]).all()
    if 0.1 <= share < 1.0:  # another seed keeps others
        both = (kept & survives(ids, share, 2)).mean()
        assert both == pytest.approx(share**2, rel=0.25)
