"""Routing waits for applying while little waits, for one run of it at most, and not under load."""

import asyncio
from types import SimpleNamespace

from pipeline.featurize import Place
from pipeline.mailbox import Mailbox
from pipeline.pace import OVERLAP_RECORDS, Pace

TURNS_OF_THE_LOOP = 10
HERE = Place("events", 0)


def records(count: int) -> list[tuple[Place, list[SimpleNamespace]]]:
    return [(HERE, [SimpleNamespace(offset=i) for i in range(count)])]


class Waiting:
    """A pace over two mailboxes, and a task that wants to route."""

    def __init__(self) -> None:
        self.routing, self.applying = Mailbox(10 * OVERLAP_RECORDS), Mailbox(10)
        self.pace = Pace(self.routing, self.applying)

    async def may_route(self) -> bool:
        """Say whether the turn comes by itself, while nothing else happens."""
        self.turn = asyncio.ensure_future(self.pace.turn_to_route())
        return await self.has_come()

    async def has_come(self) -> bool:
        for _ in range(TURNS_OF_THE_LOOP):
            await asyncio.sleep(0)
        return self.turn.done()


def test_an_idle_worker_routes_at_once() -> None:
    async def idle() -> bool:
        return await Waiting().may_route()

    assert asyncio.run(idle())


def test_what_is_being_applied_goes_before_what_is_to_be_routed() -> None:
    async def busy() -> tuple[bool, bool]:
        waiting = Waiting()
        waiting.pace.applying_begins()
        before = await waiting.may_route()
        waiting.pace.applying_ends()
        return before, await waiting.has_come()

    assert asyncio.run(busy()) == (False, True)


def test_much_that_waits_is_routed_beside_what_is_being_applied() -> None:
    async def loaded(count: int) -> bool:
        waiting = Waiting()
        waiting.pace.applying_begins()
        await waiting.may_route()
        await waiting.routing.put(records(count))
        waiting.pace.more_to_route()
        come = await waiting.has_come()
        waiting.turn.cancel()
        return come

    assert not asyncio.run(loaded(OVERLAP_RECORDS - 1))
    assert asyncio.run(loaded(OVERLAP_RECORDS))


def test_one_batch_ahead_is_enough() -> None:
    async def ahead() -> tuple[bool, bool]:
        waiting = Waiting()
        await waiting.routing.put(records(OVERLAP_RECORDS))
        await waiting.applying.put(records(1))
        before = await waiting.may_route()
        await waiting.applying.take()
        waiting.pace.applying_begins()
        return before, await waiting.has_come()

    assert asyncio.run(ahead()) == (False, True)


def test_applying_without_end_lets_routing_have_its_turn_after_one_run() -> None:
    async def endless() -> bool:
        waiting = Waiting()
        waiting.pace.applying_begins()
        await waiting.applying.put(records(1))
        await waiting.may_route()
        waiting.pace.applying_ends()
        waiting.pace.applying_begins()  # the next batch was there already
        return await waiting.has_come()

    assert asyncio.run(endless())
