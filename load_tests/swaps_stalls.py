"""How long the event loop stands still while a version is checked and written beside it."""

import asyncio
import time
from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from load_tests.report import Row
from load_tests.weights import DIGEST, a_network, a_version
from models.scorer_local import LocalScorer
from models.signing import Signer
from models.weights import encode
from models.weights_chain import Links, assemble

N = 105
SIZES = {"10 k": 0, "1 M": 62_000}
TICK_S = 0.0002


def measure_stalls(quick: bool) -> list[Row]:
    """Load versions in a thread, as the watcher does; tell the loop's longest pause."""
    return [row for name, table in SIZES.items() for row in _rows(name, table, 5 if quick else 40)]


def _rows(name: str, table_rows: int, loads: int) -> list[Row]:
    rng = np.random.default_rng(1)
    signer = Signer(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
    version = a_version({"network": ("network", a_network(N, table_rows, rng))}, N)
    both = [encode(replace(version, version=number), signer) for number in (1, 2)]
    scorer = LocalScorer(DIGEST, N, "load", "cpu")

    def load(data: bytes) -> None:
        held = assemble(Links(None, [data]), [signer.public_key])
        scorer.load(held.weights, held.sha256)

    async def beside() -> tuple[list[float], list[float]]:
        stalls, took = [], []
        for number in range(loads):
            loading = asyncio.create_task(asyncio.to_thread(load, both[number % 2]))
            began = last = time.perf_counter()
            longest = 0.0
            while not loading.done():
                await asyncio.sleep(TICK_S)
                now = time.perf_counter()
                longest, last = max(longest, now - last - TICK_S), now
            stalls.append(longest * 1000)
            took.append((time.perf_counter() - began) * 1000)
        return stalls, took

    async def idle() -> float:
        longest, last = 0.0, time.perf_counter()
        for _ in range(500):
            await asyncio.sleep(TICK_S)
            now = time.perf_counter()
            longest, last = max(longest, now - last - TICK_S), now
        return longest * 1000

    stalls, took = asyncio.run(beside())
    note = f"median of {loads} loads of {np.median(took):.1f} ms; {asyncio.run(idle()):.2f} idle"
    what = f"longest pause of the loop in a load, {name} parameters"
    return [
        Row(what, float(np.median(stalls)), "ms", better="lower", note=note),
        Row(f"{what}, worst", float(np.max(stalls)), "ms", better="lower"),
    ]
