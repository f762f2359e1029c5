"""`riskbeat up`: the embedded stack, staying up until Ctrl-C."""

import asyncio
import json
import signal
from pathlib import Path

from rich.console import Console
from rich.table import Table

from riskbeat.ports import is_free
from riskbeat.stack import WORKERS, LocalStack, StackFailed

READY_TIMEOUT_S = 60.0
EXIT_FAILED = 1
USUAL_HTTP_PORT = 8000
CURL = """curl -s {url}/v1/decisions -H 'content-type: application/json' -d '{{
  "event_type": "card_payment", "event_id": "pay_1", "event_time": "'$(date -u +%FT%TZ)'",
  "entities": {{"card": "tok_9", "merchant": "m_7", "device": "d_3", "ip": "203.0.113.9"}},
  "amount": {{"value": 12550, "currency": "EUR"}}}}'"""


def run_up(folder: Path | None, http_port: int | None, servers_only: bool, as_json: bool) -> int:
    """Run until Ctrl-C; return the exit code.

    Args:
        folder: Where data stay; a temporary folder, deleted at the end, when absent.
        http_port: Port of the HTTP door; when absent 8000, or a free one where that is taken.
        servers_only: Broker and store alone, for processes that are started by hand.
        as_json: Print the addresses as one line of JSON instead of a table.
    """
    try:
        asyncio.run(_up(folder, http_port, servers_only, as_json))
    except StackFailed as error:
        Console(stderr=True).print(f"the stack failed: {error}", markup=False)
        return EXIT_FAILED
    return 0


async def _up(
    folder: Path | None, http_port: int | None, servers_only: bool, as_json: bool
) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    workers = () if servers_only else WORKERS
    port = http_port or (USUAL_HTTP_PORT if is_free(USUAL_HTTP_PORT) else None)
    async with LocalStack(folder, workers=workers, http_port=port) as stack:
        if not servers_only:
            await stack.wait_ready(READY_TIMEOUT_S)
        addresses = {"kafka": stack.kafka, "redis": stack.redis_url, **stack.metrics_urls}
        if as_json:
            print(json.dumps(addresses), flush=True)  # noqa: T201 - this is the command's output
        else:
            _show(stack, addresses, servers_only)
        asked = asyncio.create_task(stopping.wait())
        broken = asyncio.create_task(stack.watch())
        await asyncio.wait({asked, broken}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if broken.done():
            await broken
        broken.cancel()


def _show(stack: LocalStack, addresses: dict[str, str], servers_only: bool) -> None:
    console = Console()
    table = Table(show_header=False, box=None)
    for name, address in addresses.items():
        table.add_row(name, address)
    console.print(table)
    console.print(f"data and logs: {stack.folder}")
    if not servers_only:
        console.print("\nAsk for a decision:\n")
        print(CURL.format(url=stack.http_url), flush=True)  # noqa: T201 - to be copied as it is
    console.print("\nCtrl-C stops everything.")
