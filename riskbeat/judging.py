"""settings → where the learner's judgements go: Parquet under the data directory, and metrics."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from models.cost import Costs
from models.registry import RegistryUnavailable
from models.rollout_store import RolloutStore
from pipeline.judge_arms import ArmJudge
from pipeline.judged import JudgedStore, JudgeLog, JudgeRules
from pipeline.judged_metrics import JudgeMetrics
from pipeline.judged_parquet import ParquetJudged
from pipeline.learn_metrics import LearnMetrics
from riskbeat.settings import Settings

EVALUATION_FOLDER: Final = "evaluation"
TELL_ARMS_EVERY_S: Final = 2.0


def evaluation_folder(data_dir: Path) -> Path:
    """Return where judged predictions stand below a data directory."""
    return data_dir / EVALUATION_FOLDER


def costs_of(settings: Settings) -> Costs:
    """Return what errors cost."""
    return Costs(settings.cost_false_alarm, settings.cost_review)


def judge_log(
    settings: Settings,
    store: JudgedStore,
    predictors: Sequence[str],
    metrics: LearnMetrics,
) -> JudgeLog:
    """Return the sink of a learner's judgements; call its `restore` before the first row."""
    rules = JudgeRules(
        predictors=tuple(predictors),
        window_rows=settings.evaluation_rows,
        file_rows=settings.evaluation_file_rows,
        write_every_s=settings.evaluation_write_s,
        keep_days=settings.evaluation_days,
        costs=costs_of(settings),
    )
    files = ParquetJudged(evaluation_folder(settings.data_dir))
    return JudgeLog(rules, store, files, JudgeMetrics(metrics.registry), time.monotonic)


@contextlib.asynccontextmanager
async def telling(arms: ArmJudge, store: RolloutStore, *, speaks: bool) -> AsyncIterator[None]:
    """Tell scorers what becomes of a rollout's decisions, while the block runs.

    The main line's learner judges the decisions of all arms, so it alone speaks. What an absent
    store did not take is told with the next decision that is judged.
    """
    task = asyncio.create_task(_tell(arms, store)) if speaks else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _tell(arms: ArmJudge, store: RolloutStore) -> None:
    while True:
        report = arms.report()
        if report is not None:
            with contextlib.suppress(RegistryUnavailable):
                await store.report_judged(report)
        await asyncio.sleep(TELL_ARMS_EVERY_S)
