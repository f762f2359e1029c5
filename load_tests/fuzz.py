"""`python -m load_tests.fuzz`: broken bodies at every route that takes one; no 5xx, no hang.

One `riskbeat serve` behind its HTTP door, a broker and a store. Hypothesis breaks the examples of
the OpenAPI document that the process serves itself, and sends each over one kept connection. 503
is allowed (overload); any other 5xx, an answer that is no problem document, or none in time is a
failure, and its request is written next to the figures.
"""

import argparse
import http.client
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings

from load_tests.deployment import Deployment, deployed
from load_tests.fuzz_bodies import Sample, broken_bodies, samples_of
from load_tests.report import Row, write
from riskbeat.ports import LOOPBACK

BODIES, QUICK_BODIES = 100_000, 1_000
ROUND = 1_000  # bodies of one run of Hypothesis, which remembers all of a run
HANG_S = 10.0
OVERLOAD = 503
FAILURES_KEPT = 20
MIB = 2**20
PROBLEM = "application/problem+json"
WARM_SHARE = 0.2  # of the bodies, before memory is looked at first


@dataclass
class Found:
    """What came back.

    Attributes:
        failures: Requests that were not answered as promised, and what came instead.
        slowest_s: Longest wait for an answer.
        rss: Bodies sent → resident bytes of the server.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    slowest_s: float = 0.0
    rss: list[tuple[int, int]] = field(default_factory=list)

    def fails(self, sample: Sample, body: bytes, why: str) -> None:
        """Count a failure, and keep the first few whole."""
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            request = f"{sample.method} {sample.path} {sample.media_type}"
            self.failures.append(f"{why}\n  {request}\n  {body!r}")


class Asker:
    """One kept connection, opened anew where the server closes it."""

    def __init__(self, port: int, found: Found) -> None:
        self._port = port
        self._found = found
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, sample: Sample, body: bytes) -> int:
        """Send one request and judge its answer; return the status, 0 where none came."""
        connection = self._connection or http.client.HTTPConnection(LOOPBACK, self._port, HANG_S)
        self._connection = connection
        begun = time.monotonic()
        try:
            connection.request(
                sample.method, sample.path, body, {"content-type": sample.media_type}
            )
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            self._found.fails(sample, body, f"no answer: {error!r}")
            return 0
        self._found.slowest_s = max(self._found.slowest_s, time.monotonic() - begun)
        if response.will_close:
            self._drop()
        self._judge(sample, body, response, data)
        return response.status

    def _judge(
        self, sample: Sample, body: bytes, response: http.client.HTTPResponse, data: bytes
    ) -> None:
        status = response.status
        self._found.statuses[status] += 1
        if status >= 500 and status != OVERLOAD:
            self._found.fails(sample, body, f"{status}: {data[:500]!r}")
        elif status >= 400 and response.getheader("content-type", "") != PROBLEM:
            self._found.fails(sample, body, f"{status} is no problem document: {data[:500]!r}")
        elif status >= 400 and json.loads(data)["status"] != status:
            self._found.fails(sample, body, f"{status} says another: {data[:500]!r}")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def run_fuzz(bodies: int, first_seed: int) -> tuple[Found, str]:
    """Send so many broken bodies; return what came back, and what the servers were."""
    with deployed({"RISKBEAT_DEVICE": "cpu"}, ("serve",)) as deployment:
        found = Found()
        asker = Asker(int(deployment.processes.env["RISKBEAT_HTTP_PORT"]), found)
        samples = samples_of(_document(deployment))
        for start in range(0, bodies, ROUND):
            count = min(ROUND, bodies - start)
            _one_round(samples, asker, first_seed + start // ROUND, count)
            found.rss.append((start + count, _rss_bytes(deployment)))
        for sample in samples:  # it answers what is whole as before
            status = asker.ask(sample, sample.body)
            if status >= 500 or status == 0:
                found.fails(sample, sample.body, f"afterwards, the example itself: {status}")
        return found, deployment.servers


def _one_round(samples: list[Sample], asker: Asker, number: int, count: int) -> None:
    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(broken_bodies(samples))
    def send(broken: tuple[Sample, bytes]) -> None:
        asker.ask(*broken)

    send()


def _document(deployment: Deployment) -> dict[str, object]:
    port = int(deployment.processes.env["RISKBEAT_HTTP_PORT"])
    connection = http.client.HTTPConnection(LOOPBACK, port, HANG_S)
    connection.request("GET", "/openapi.json")
    document: dict[str, object] = json.loads(connection.getresponse().read())
    connection.close()
    return document


def _rss_bytes(deployment: Deployment) -> int:
    process = psutil.Process(deployment.processes.running["serve"].popen.pid)
    family = [process, *process.children(recursive=True)]
    return sum(member.memory_info().rss for member in family)


def rows_of(found: Found, bodies: int, servers: str) -> list[Row]:
    """Return the figures."""
    sent = sum(found.statuses.values())
    by_status = ", ".join(f"{status}: {n}" for status, n in sorted(found.statuses.items()))
    warm = [rss for at, rss in found.rss if at >= bodies * WARM_SHARE]
    grown = (warm[-1] - warm[0]) / MIB if len(warm) > 1 else 0.0
    note = f"statuses {by_status}; {servers}"
    return [
        Row("broken bodies that were answered", sent, "bodies", must=bodies, note=note),
        Row("answers that broke the promise", found.failed, "answers", 0, 0, "lower"),
        Row("overload (503)", found.statuses[OVERLOAD], "answers", better="lower"),
        Row("slowest answer", found.slowest_s, "s", HANG_S, 1.0, "lower"),
        Row("memory grown since a fifth of them", grown, "MiB", 32, 8, "lower",
            f"resident {warm[0] / MIB:.0f} → {warm[-1] / MIB:.0f} MiB" if warm else ""),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m load_tests.fuzz")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_BODIES} bodies")
    parser.add_argument("--bodies", type=int, default=BODIES)
    parser.add_argument("--seed", type=int, default=1, help="of the first thousand bodies")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    bodies = QUICK_BODIES if arguments.quick else arguments.bodies
    found, servers = run_fuzz(bodies, arguments.seed)
    if found.failures:
        kept = arguments.out.with_suffix(".failures.txt")
        kept.write_text("\n".join(found.failures))
        print(f"{found.failed} failures; the first are in {kept}", file=sys.stderr)
    good = write("fuzz", rows_of(found, bodies, servers), arguments.out)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
