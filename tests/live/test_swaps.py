"""Versions swapped in under load, the shorter form of `python -m load_tests.swaps`."""

import pytest

from load_tests.deployment import KAFKA, REDIS
from load_tests.swaps import BOUND_LOGIT, run_swaps

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.timeout(1200)]

SWAPS = 150


def test_no_answer_mixes_versions_and_none_fails(
    kafka_bootstrap: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KAFKA, kafka_bootstrap)
    monkeypatch.setenv(REDIS, redis_url)
    run = run_swaps(SWAPS, seed=3, rate=40.0)
    verdict = run.verdict
    assert run.swaps == SWAPS
    assert run.refused == 0
    assert set(run.seen.statuses) == {200}
    assert verdict.checked == len(run.seen.answers)
    assert (verdict.mixed, verdict.misnamed, verdict.elsewhere) == (0, 0, 0), verdict.examples
    assert len(verdict.versions) > SWAPS / 10
    assert verdict.least_move > BOUND_LOGIT
