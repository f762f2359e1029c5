"""Killed before or after any call to the store or the log, a worker's successor ends alike."""

import random

import pytest

from features.spec import Spec
from tests.fakes import MemoryShelf
from tests.fakes_featurize import Guillotine, Killed, drain, expected_states, start, worker_over
from tests.unit.pipeline.test_featurize import a_log, a_store, spec, states_of

__all__ = ["spec"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_killed_worker_loses_and_doubles_nothing(spec: Spec, after: bool) -> None:
    calls = 0
    while True:
        calls += 1
        rng, shelf = random.Random(calls), MemoryShelf()
        log = a_log(rng, events=24)
        guillotine = Guillotine(calls, after=after)
        owned = worker_over(spec, a_store(spec, shelf), log, guillotine)
        try:
            await start(owned, log)
            await drain(owned, log, rng, most=5)
        except Killed:
            successor = worker_over(spec, a_store(spec, shelf), log)
            await start(successor, log)
            await drain(successor, log, rng, most=5)
        assert states_of(shelf) == expected_states(spec, log.records), f"killed at call {calls}"
        if not guillotine.fell:
            break
    assert calls > 30
