"""Two workers: killed, frozen past their session, and a store that forgets; then the log is asked.

`python -m load_tests.chaos_features` does the same two hundred times.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from load_tests.chaos_features.attack import judge, strike
from load_tests.chaos_features.servers import a_lossy_redis
from load_tests.chaos_features.stage import Stage, a_stage
from load_tests.chaos_features.workers import NO_NAME
from tests.live.servers import Server

pytestmark = [pytest.mark.live, pytest.mark.apache]

SEED = 5
KILLS = 4
ZOMBIES_MAX = 3  # one that had nothing in hand has nothing to be refused


@pytest.fixture
def stage(kafka_broker: Server, topic_prefix: str, tmp_path: Path) -> Iterator[Stage]:
    with (
        a_lossy_redis(tmp_path / "redis") as store,
        a_stage(tmp_path, kafka_broker, store, topic_prefix, SEED, print) as made,
    ):
        yield made


def test_zombies_are_refused_and_nothing_is_lost_or_counted_twice(stage: Stage) -> None:
    stage.staff(2, fixed=False)
    while not any(stage.zombies) and len(stage.zombies) < ZOMBIES_MAX:
        stage.raise_zombie()
    stage.lose_seconds()
    stage.workers.fixed = True
    while stage.kills < KILLS:
        strike(stage, KILLS - stage.kills)
    verdict = judge(stage, twice=False)

    assert any(stage.zombies), "no zombie's write was seen to be refused"
    assert [loss.commits for loss in stage.losses if not loss.commits] == []
    assert verdict.drained
    assert verdict.wrong == [], f"{len(verdict.wrong)} of {verdict.states} states differ"
    assert verdict.letters == 0
    assert set(verdict.statuses) == {0}
    assert [name for name in stage.workers.ends if name.startswith(NO_NAME)] == []
