"""A consumer → stopped to the end, whatever its fetches wait for."""

import asyncio

from aiokafka import AIOKafkaConsumer


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop it.

    The library (0.14) cancels the fetches that it has under way, and awaits them. One that waits to
    try again, because the broker is away, lets the cancellation out of `stop` as if it were the
    caller's, before the connections are closed: who waits for the log would end by it.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        asking = asyncio.current_task()
        if asking is not None and asking.cancelling():
            raise  # it is the caller's
        for fetch in consumer._fetcher._pending_tasks:
            fetch.cancel()
        await consumer._client.close()
