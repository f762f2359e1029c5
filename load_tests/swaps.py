"""`python -m load_tests.swaps`: versions swapped in under load, and every answer computed again.

One `riskbeat serve` behind its HTTP door, a broker and a store; versions go straight to the
registry. Each is signed, differs from its neighbours in every weight, and passes all gates.
"""

import argparse
import asyncio
import gc
import importlib.metadata
import logging
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer

from features.client_redis import connect_redis
from features.spec import Spec
from features.topics import Topics
from load_tests.deployment import KAFKA, REDIS, Deployment, deployed
from load_tests.features_servers import Servers, serving
from load_tests.report import ROOT, Row, write
from load_tests.swaps_check import Verdict, check_answers
from load_tests.swaps_load import Askers, Seen, swap_many, watch_memory
from load_tests.swaps_plot import MIB, draw, p99_by_window, slope
from load_tests.swaps_stalls import measure_stalls
from load_tests.swaps_versions import Line
from models.decision import DecisionRecord
from models.decision_codec import decode_record
from models.registry_redis import RedisWeightsRegistry
from models.scorer_local import LocalScorer

SPEC_PATH = ROOT / "features.yaml"
SWAPS, QUICK_SWAPS = 10_000, 500
RATE, CONNECTIONS = 200.0, 8
BOUND_LOGIT = 1e-5
READ_S = 60.0
WARM_UP = 20
PATIENT = {  # shared machines stand still now and then; what slowness degrades is tested elsewhere
    "RISKBEAT_FEATURES_TIMEOUT_S": "2",
    "RISKBEAT_DEADLINE_S": "10",
    "RISKBEAT_ACK_TIMEOUT_S": "5",
    "RISKBEAT_WEIGHTS_KEPT": "16",
}


@dataclass(frozen=True)
class Run:
    """What was done, and what became of it."""

    swaps: int
    refused: int
    servers: str
    seen: Seen
    verdict: Verdict


def run_swaps(
    swaps: int,
    seed: int,
    rate: float = RATE,
    most_s: float = float("inf"),
    servers: Servers | None = None,
) -> Run:
    """Swap versions under load, for so long at most, and check every answer.

    Without servers those are used that the environment names, or embedded ones.

    Raises:
        RuntimeError: A process ended.
        TimeoutError: A version was not taken up.
    """
    spec = Spec.load(SPEC_PATH)
    line = Line(seed, spec.digest, spec.n_features)
    env = {"RISKBEAT_DEVICE": "cpu", **PATIENT}
    if servers is not None:
        env |= {KAFKA: servers.kafka.address, REDIS: servers.store.address}
    with deployed(env, ("serve",)) as deployment:
        seen, records, done = asyncio.run(_drive(deployment, line, swaps, rate, most_s))
        activated = deployment.count("serve", "riskbeat_weights_swaps_total")
        refused = deployment.count("serve", "riskbeat_weights_refused_total")
    assert activated >= done, f"{activated} of {done} versions became active"
    build = f"riskbeat-{importlib.metadata.version('riskbeat')}"
    scorer = LocalScorer(spec.digest, spec.n_features, build, "cpu")
    verdict = check_answers(seen.answers, records, seen.sha256, line, scorer)
    words = deployment.servers if servers is None else servers.words
    return Run(done, int(refused), words, seen, verdict)


async def _drive(
    deployment: Deployment, line: Line, swaps: int, rate: float, most_s: float
) -> tuple[Seen, dict[str, DecisionRecord], int]:
    env = deployment.processes.env
    client = connect_redis(env[REDIS])
    prefix = env["RISKBEAT_REDIS_PREFIX"]
    registry = RedisWeightsRegistry(client, prefix, line.digest, keep_versions=16)
    seen = Seen()
    key = env["RISKBEAT_SIGNING_KEY_PATH"]
    await swap_many(registry, line, key, 1, WARM_UP, seen)
    askers = Askers(int(env["RISKBEAT_HTTP_PORT"]), rate, CONNECTIONS, seen)
    done = askers.done
    asking = asyncio.create_task(askers.ask())
    pid = deployment.processes.running["serve"].popen.pid
    watching = asyncio.create_task(watch_memory(pid, seen, done))
    gc.freeze()  # the client's pauses are not the scorer's
    swapped = await swap_many(registry, line, key, WARM_UP + 1, swaps, seen, most_s)
    done.set()
    await asyncio.gather(asking, watching)
    await client.aclose()
    topic = Topics(env["RISKBEAT_TOPIC_PREFIX"]).decisions
    return seen, await _records(env[KAFKA], topic, len(seen.answers)), swapped


async def _records(kafka: str, topic: str, count: int) -> dict[str, DecisionRecord]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    found: dict[str, DecisionRecord] = {}
    try:
        async with asyncio.timeout(READ_S):
            while len(found) < count:
                fetched = await consumer.getmany(timeout_ms=200)
                for batch in fetched.values():
                    for one in batch:
                        record = decode_record(one.value)
                        found.setdefault(record.decision_id, record)
    except TimeoutError:
        pass  # what is missing is counted as unrecorded
    finally:
        await consumer.stop()
    return found


def rows_of(run: Run, quick: bool) -> list[Row]:
    """Return what is to be said of a run."""
    seen, verdict = run.seen, run.verdict
    must = None if quick else float(SWAPS)
    errors = sum(count for status, count in seen.statuses.items() if status != 200)
    wrong = verdict.mixed + verdict.misnamed + verdict.elsewhere
    took_ms = np.array([answer.took_s for answer in seen.answers]) * 1000
    memory = np.array(seen.rss, np.float64)
    at_s, p99 = p99_by_window(seen.answers)
    degraded = sum(bool(answer.degraded) for answer in seen.answers)
    pace = f"{run.swaps / seen.swaps_s:.0f} a second; {run.servers}"
    return [
        Row("versions swapped in", run.swaps, "versions", must, 100_000, note=pace),
        Row("answers computed again, bit for bit", verdict.checked, "answers",
            note=f"by {len(verdict.versions)} versions"),
        Row("answers that are not what their version gives", wrong, "answers", 0, 0, "lower",
            "; ".join(verdict.examples)),
        Row("answers that the log does not hold, or without a score",
            verdict.unrecorded + verdict.unscored, "answers", 0, 0, "lower"),
        Row("HTTP answers other than 200", errors, "answers", 0, 0, "lower",
            str(seen.statuses)),
        Row("degraded answers", degraded, "answers", None, 0, "lower"),
        Row("versions that a gate refused", run.refused, "versions", 0, 0, "lower"),
        Row("smallest move of an answer to a version beside its own", verdict.least_move,
            "log-odds", BOUND_LOGIT, 10 * BOUND_LOGIT),
        Row("p50 of answers", float(np.quantile(took_ms, 0.5)), "ms", better="lower"),
        Row("p99 of answers", float(np.quantile(took_ms, 0.99)), "ms", better="lower"),
        Row("p99 grows by", slope(at_s, p99) * 60, "ms/min", better="lower"),
        Row("resident memory of the scorer at the end", memory[-1, 2] / MIB, "MiB",
            better="lower"),
        Row("resident memory grows by",
            slope(memory[:, 1], memory[:, 2]) * 1_000 / 1024, "KiB per 1000 versions",
            better="lower"),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 when a must fails."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.swaps")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SWAPS} swaps")
    parser.add_argument("--swaps", type=int, default=SWAPS)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="swap no longer")
    parser.add_argument("--rate", type=float, default=RATE, help="questions a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--plot", type=Path, help="the picture to draw (.png, .svg)")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all that was started ends
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of a broker that is not up yet
    swaps = QUICK_SWAPS if given.quick else given.swaps
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as servers,
        servers.unpinned() as everywhere,
    ):
        run = run_swaps(swaps, given.seed, given.rate, given.seconds, everywhere)
    if given.plot:
        draw(run.seen.answers, run.seen.rss, run.swaps, given.plot)
    rows = rows_of(run, given.quick) + measure_stalls(given.quick)
    return 0 if write("swaps", rows, given.out) else 1


if __name__ == "__main__":
    sys.exit(main())
