"""Kernel, brute force and SQL agree: every aggregate, any stream, at and between events.

More streams than there is time for here: `python -m load_tests.exactness`.
"""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.spec import Spec
from features.window import warm_up
from tests.oracle import EVENT, Row
from tests.oracle_sql import SqlOracle
from tests.oracle_streams import AMOUNT_MAX, EVERY_AGGREGATE, Drawn, Seeded, Stream, spec_in
from tests.oracle_trial import Trial, sql_connection


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    spec = spec_in(EVERY_AGGREGATE, tmp_path_factory.mktemp("every"))
    warm_up(spec)
    return spec


def test_kernel_brute_force_and_sql_agree(spec: Spec) -> None:
    with sql_connection() as sql, sql_connection() as other:
        trials = [
            Trial(spec, entity, SqlOracle(spec, entity, connection))
            for entity, connection in zip(spec.entities, (sql, other), strict=True)
        ]

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(data=st.data())
        def agree(data: st.DataObject) -> None:
            for trial in trials:
                stream = Stream.drawn(Drawn(data.draw), spec, trial.entity, most=20)
                assert not trial.differences({"stream": stream}, most_questions=6)

        agree()


def test_the_same_streams_for_everyone_agree(spec: Spec) -> None:
    """The first ones of `load_tests.exactness`; every aggregate is met with a value, behind too."""
    with sql_connection() as sql:
        entity = spec.entities[0]
        trial = Trial(spec, entity, SqlOracle(spec, entity, sql))
        streams = {}
        for n in range(60):
            draws = Seeded(random.Random(f"{entity.name} {n}"))
            streams[f"stream {n}"] = Stream.drawn(draws, spec, entity, most=40)
        assert trial.differences(streams, most_questions=12) == []
    tally = trial.tally
    assert tally.tiled > 100
    assert all(count - tally.missing[name] > 10 for name, count in tally.values.items())
    assert len(tally.values) == 18


def test_sums_beyond_the_precision_of_a_double_agree(spec: Spec) -> None:
    """Thousands of the largest amounts: sums of 57 bits, squares of 101."""
    draws = Seeded(random.Random(5))
    with sql_connection() as sql:
        entity = spec.entities[0]
        stream = Stream(draws, spec, entity)
        for n in range(6_000):
            value, fields = AMOUNT_MAX - draws.integer(0, 2), (1, 1, 1, 0, 0)
            stream.rows.append(Row(EVENT, 100_000 + n // 8, n + 1, 1, value, fields, n % 4))
        trial = Trial(spec, entity, SqlOracle(spec, entity, sql))
        assert trial.differences({"large": stream}, most_questions=8) == []
        assert sum(row.value for row in stream.rows) > 2**56
