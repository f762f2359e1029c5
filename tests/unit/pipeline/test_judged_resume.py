"""Killed anywhere, a learner's judgements stand on disk once each, as if it had never stopped."""

import asyncio
from pathlib import Path

import polars as pl
import pytest

from pipeline.join_sqlite import SqliteJoinStore
from pipeline.judged import JudgeLog, JudgeRules, Kept
from pipeline.judged_log import judge_log
from pipeline.judged_parquet import ParquetJudged
from pipeline.learn_loop import parse_records
from tests.builders_learn import DIGEST
from tests.deployment_learn import Deployment, an_ensemble, fill, parse_rules
from tests.fakes_judged import DAY_MS, MemoryJudgeWatch
from tests.fakes_registry import Fuse

PLACES = (
    "poll",
    "before commit",
    "after commit",
    "before files",
    "after files",
    "before registry",
    "before progress",
)


class FusedFiles(ParquetJudged):
    """The real files; the process can be killed on either side of a write."""

    def __init__(self, folder: Path, fuse: Fuse) -> None:
        super().__init__(folder)
        self._fuse = fuse

    def write(self, kept: Kept) -> None:
        self._fuse.burn("before files")
        super().write(kept)
        self._fuse.burn("after files")


class Judging(Deployment):
    """A learner whose judgements go to disk, a few to a file."""

    def sink(self, store: SqliteJoinStore) -> JudgeLog:
        predictors = an_ensemble(DIGEST).predictors
        rules = JudgeRules(predictors=predictors, file_rows=7, window_rows=50, write_every_s=0.0)
        files = FusedFiles(self.folder / "evaluation", self.fuse)
        return JudgeLog(rules, store, files, MemoryJudgeWatch(), lambda: self.now_s)

    def on_disk(self) -> pl.DataFrame:
        """Every row of every file, whether or not it is there twice."""
        paths = sorted(self.folder.glob("evaluation/judged/day=*/*.parquet"))
        frames = [pl.read_parquet(path, hive_partitioning=False) for path in paths]
        return pl.concat(frames).sort("seq")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Judging:
    deployment = Judging(tmp_path_factory.mktemp("undisturbed"))
    fill(deployment.log)
    asyncio.run(deployment.live_on())
    return deployment


def test_what_is_judged_is_what_matured(undisturbed: Judging) -> None:
    rows = undisturbed.on_disk()
    assert len(rows) == rows["key"].n_unique() > 100
    assert rows["seq"].to_list() == list(range(1, len(rows) + 1))
    assert 0 < rows["fraud"].sum() < len(rows)
    logits = rows.select(pl.selectors.starts_with("logit."))
    assert logits.width == len(an_ensemble(DIGEST).predictors)
    assert logits.sum_horizontal().is_finite().all()


def test_a_log_judged_anew_says_what_the_learner_said(undisturbed: Judging) -> None:
    log = undisturbed.log
    decisions, labels, _ = parse_records(parse_rules(), log.records)
    again = judge_log(decisions, labels[::-1], 7 * DAY_MS)
    same = (
        "key",
        "identity",
        "event_time",
        "fraud",
        "p",
        "amount_minor",
        "card",
        "outcome",
        "source",
    )
    mine = again.select(same).sort("key")
    theirs = undisturbed.on_disk().select(same).sort("key")
    assert mine.equals(theirs)


@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("place", PLACES)
async def test_killed_anywhere_each_judgement_is_on_disk_once(
    place: str, nth: int, tmp_path: Path, undisturbed: Judging
) -> None:
    disturbed = Judging(tmp_path)
    disturbed.share_keys(undisturbed)
    fill(disturbed.log)
    disturbed.fuse.at = (place, nth)
    await disturbed.live_on()
    assert disturbed.lives == 2
    assert disturbed.on_disk().equals(undisturbed.on_disk())
