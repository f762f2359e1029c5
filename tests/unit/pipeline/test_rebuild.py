"""A rebuild must never write where an older one wrote."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import create_autospec

from features.spec import Spec
from pipeline.featurize_config import FeaturizeConfig, WorkerStore
from pipeline.rebuild_faust import BATCH_RECORDS, in_large_steps, lowest_epoch


def test_an_epoch_lies_beyond_every_updates_topic_that_the_broker_has() -> None:
    topics = {"x.updates.v1", "x.updates.v1.e3", "y.updates.v1.e9", "x.updates.v1.e3b"}
    assert lowest_epoch("x.updates.v1", topics) == 4
    assert lowest_epoch("x.updates.v1", set()) == 1


SPEC = Path(__file__).parents[3] / "features.yaml"


def test_a_rebuild_works_in_larger_steps_than_a_worker_but_never_in_smaller_ones() -> None:
    config = FeaturizeConfig(Spec.load(SPEC), create_autospec(WorkerStore), {})
    large = in_large_steps(config).limits
    assert large.route_max_records == BATCH_RECORDS > config.limits.route_max_records
    assert large.commit_max_bytes == config.limits.commit_max_bytes
    own = replace(config.limits, route_max_records=2 * BATCH_RECORDS)
    kept = in_large_steps(replace(config, limits=own)).limits
    assert kept.route_max_records == 2 * BATCH_RECORDS
