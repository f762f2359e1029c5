"""A server that still loads its file says so to every command: it is away, and nobody's fault."""

import asyncio
from collections.abc import AsyncIterator

import hiredis
import pytest

from features.client_redis import RedisLink, connect_redis
from features.store import StoreUnavailable

LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"
TAKEN = {b"HELLO": b"%1\r\n+proto\r\n:3\r\n", b"CLIENT": b"+OK\r\n"}
"""What a server answers while it loads, too: how a connection begins."""


@pytest.fixture
async def loading() -> AsyncIterator[str]:
    """Return the address of a server that answers as one does that has just been restarted."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(4096):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                writer.write(TAKEN.get(command[0].upper(), LOADING))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize("piped", [True, False])
async def test_reads_say_that_the_store_is_away(loading: str, piped: bool) -> None:
    client = connect_redis(loading)
    link = RedisLink(client, piped=piped)
    with pytest.raises(StoreUnavailable, match="loading"):
        await link.get_together([b"one", b"two"])
    with pytest.raises(StoreUnavailable, match="loading"):
        await link.run("return {}", [b"one"], [])
    await client.aclose()
