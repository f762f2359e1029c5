"""The measurement of learning on the Handbook against XGBoost: the same labels, paired by week."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.spec import Spec
from load_tests.handbook_unseen import unseen_report
from load_tests.handbook_weeks import figures_of
from load_tests.learning_pass import Pass
from load_tests.report import Row
from tests.unit.load_tests.handbook_logs import a_log, turned

pytest.importorskip("xgboost", reason="the extra `peers` is not installed")
learning_peers = pytest.importorskip("load_tests.learning_peers")
learning_handbook = pytest.importorskip("load_tests.learning_handbook")


def test_xgboost_sees_the_same_labels(tmp_path: Path) -> None:
    log = a_log(14)
    told = learning_peers.nightly(log, [12], tmp_path / "kept.npz")
    assert told.days == 1
    again = learning_peers.nightly(log, [12], tmp_path / "kept.npz")
    assert "of an earlier run" in again.note
    assert (again.logit == told.logit).all()
    assert again.cpu_s == told.cpu_s
    assert "earlier" not in learning_peers.nightly(log, [13], tmp_path / "kept.npz").note
    assert (learning_peers.fit_daily(turned(log, 5, 14), [12]).logit == told.logit).all()
    assert (learning_peers.fit_daily(turned(log, 4, 5), [12]).logit != told.logit).any()


def test_what_is_reported_is_paired_by_week() -> None:
    log = a_log(42)
    weeks = (21, 28, 35)
    ours = log.X[:, 0].copy()
    theirs = np.random.default_rng(1).random(len(log.y)).astype(np.float32)
    passes = [Pass(ours, theirs[:, None], ("delayed.network",), cpu) for cpu in (2.0, 4.0)]
    rows = {
        r.what: r
        for r in learning_handbook.rows_of(
            log, passes, learning_peers.Nightly(theirs, 30.0, 21, ""), weeks, True
        )
    }
    mine = np.mean([figures_of(log, ours, week)[0] for week in weeks])
    other = np.mean([figures_of(log, theirs, week)[0] for week in weeks])
    assert rows["ensemble: average precision"].value == pytest.approx(mine)
    assert rows["XGBoost nightly: average precision"].value == pytest.approx(other)
    above = rows["ensemble above XGBoost: average precision"]
    assert above.value == pytest.approx(mine - other)
    assert rows["delayed.network alone: average precision"].value == pytest.approx(other)
    assert rows["ensemble: CPU for one of XGBoost's"].value == pytest.approx(0.1)


def test_the_books_features_are_fifteen_and_asked_for_no_bound() -> None:
    ours, book = learning_handbook.KINDS
    assert Spec.load(book.spec).n_features == 15
    row = Row("ensemble: AUC", 0.8, "AUC", 0.876, 0.9)
    assert learning_handbook.named(ours, row) == row
    assert learning_handbook.named(book, row) == Row("book's features: ensemble: AUC", 0.8, "AUC")


def test_an_auc_is_taken_apart_into_what_shows_and_chance() -> None:
    draws = np.random.default_rng(2)
    log = a_log(42)
    log = replace(log, card=draws.integers(0, 20_000, len(log.y)))  # few are known
    unseen = (log.y == 1) & (draws.random(len(log.y)) < 0.3)
    logit = np.where((log.y == 1) & ~unseen, 5.0, draws.normal(size=len(log.y)))
    shown, chance = unseen_report(log, "it", [logit.astype(np.float32)], unseen, (21, 28, 35))
    assert shown.value == pytest.approx(1.0, abs=1e-3)
    assert chance.value == pytest.approx(0.5, abs=0.1)
    share = unseen[log.y == 1].mean()
    assert float(chance.note.split("; ")[-1].split("%")[0]) == pytest.approx(100 * share, abs=6)
