"""What a plan rests on: figures that were measured, each with its file and the way to it.

A test holds every figure against its file, so that none is invented; what was not measured stands
apart, as an assumption with its reason.
"""

from typing import Final, NamedTuple

EVIDENCE: Final = "docs/evidence"


class Measured(NamedTuple):
    """One figure.

    Attributes:
        value: As the file has it.
        file: In `docs/evidence`.
        row: Its `what` in there.
        command: Measures it again.
    """

    value: float
    unit: str
    file: str
    row: str
    command: str


class Assumed(NamedTuple):
    """A choice, or a figure that nobody has measured yet; says why it is what it is."""

    value: float
    unit: str
    why: str


_PATH: Final = "python -m load_tests.path --quick --out FILE"
_FRESH: Final = "python -m load_tests.features --only saturation,freshness --out FILE"
_BYTES: Final = "python -m load_tests.features --only bytes --out FILE"
_SCORING: Final = "python -m load_tests.scoring --only answers --out FILE"
_SIZES: Final = "python -m load_tests.sizes --out FILE"
_SERVING: Final = "python -m load_tests.label_serving --out FILE"

FEATURIZE: Final = Measured(
    5514.586709886548,
    "events/CPU-s",
    "path-quick.json",
    "flat out: featurize, events per CPU-second",
    _PATH,
)
SERVE: Final = Measured(
    5226.574500768049,
    "events/CPU-s",
    "path-quick.json",
    "flat out: serve, events per CPU-second",
    _PATH,
)
SERVE_HTTP: Final = Measured(
    3316.8845315904127,
    "decisions/CPU-s",
    "scoring.json",
    "decisions per worker CPU-second, full answer, its index process with it",
    _SCORING,
)
LEARN: Final = Measured(
    6480.952380952381,
    "events/CPU-s",
    "path-quick.json",
    "flat out: learn, events per CPU-second",
    _PATH,
)
STATE: Final = Measured(
    858.97,
    "B",
    "features_bytes.json",
    "bytes: state of an ordinary card, features.yaml",
    _BYTES,
)
FRESH_QUIET_MS: Final = Measured(
    16.718944236345123,
    "ms",
    "features.json",
    "freshness at 200/s: event due → readable in Redis, p99",
    _FRESH,
)
FRESH_BUSY_MS: Final = Measured(
    299.3909578653984,
    "ms",
    "features.json",
    "freshness at half of the live saturated rate: event due → readable in Redis, p99",
    _FRESH,
)
FRESH_SATURATED: Final = Measured(
    33066.59066450239, "events/s", "features.json", "freshness: live saturated rate", _FRESH
)
WORKER_MIB: Final = Measured(
    330.203125,
    "MiB",
    "features.json",
    "saturation: worker, resident memory at the end",
    _FRESH,
)
LABEL_S: Final = Measured(
    0.229,
    "s",
    "label_serving.json",
    "label appended → first answer by a version that learned it: p99",
    _SERVING,
)
KEY_OVERHEAD: Final = Measured(
    91.62953953084275, "B", "sizes.json", "Redis: bytes of a key beside its state", _SIZES
)
RECORD_BYTES: Final = {
    "events.v1": Measured(273.2532, "B", "sizes.json", "events.v1: bytes per event", _SIZES),
    "updates.v1": Measured(586.6293, "B", "sizes.json", "updates.v1: bytes per event", _SIZES),
    "decisions.v1": Measured(
        3537.37465, "B", "sizes.json", "decisions.v1: bytes per event", _SIZES
    ),
}
"""Bytes per event and topic, of generated payments; values alone, uncompressed."""
VERSION_BYTES: Final = Measured(509039.2727272727, "B", "sizes.json", "bytes of a version", _SIZES)
MEASURED: Final = (
    *(FEATURIZE, SERVE, SERVE_HTTP, LEARN, STATE, FRESH_QUIET_MS, FRESH_BUSY_MS),
    *(FRESH_SATURATED, WORKER_MIB, LABEL_S, KEY_OVERHEAD, VERSION_BYTES),
    *RECORD_BYTES.values(),
)

QUIET_EVENTS_PER_S: Final = 200.0
"""The load of `FRESH_QUIET_MS`, as its row says."""
USED: Final = Assumed(0.5, "", "a process is planned for half of what it does flat out: peaks")
COPIES: Final = Assumed(
    2.0, "", "a Redis that rewrites its append-only file may hold much of its memory twice"
)
ASSUMED: Final = {
    "share of a process used": USED,
    "copies of Redis' memory": COPIES,
}
