"""Kernel, brute force and SQL agree: every aggregate, any stream, at and between events.

More streams than there is time for here: `python -m load_tests.exactness`.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.window import warm_up
from tests.oracle_sql import SqlOracle
from tests.oracle_streams import EVERY_AGGREGATE, Drawn, Stream, spec_in
from tests.oracle_trial import Trial, sql_connection


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Trial]]:
    spec = spec_in(EVERY_AGGREGATE, tmp_path_factory.mktemp("every"))
    warm_up(spec)
    with sql_connection() as sql, sql_connection() as other:
        yield [
            Trial(spec, entity, SqlOracle(spec, entity, connection))
            for entity, connection in zip(spec.entities, (sql, other), strict=True)
        ]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_kernel_brute_force_and_sql_agree(trials: list[Trial], data: st.DataObject) -> None:
    for trial in trials:
        stream = Stream.drawn(Drawn(data.draw), trial.spec, trial.entity, most=20)
        assert not trial.differences({"stream": stream}, most_questions=6)
