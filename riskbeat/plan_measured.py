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
    15.575477998936549,
    "ms",
    "features.json",
    "freshness at 200/s: event due → readable in Redis, p99",
    _FRESH,
)
FRESH_BUSY_MS: Final = Measured(
    115.39359665766824,
    "ms",
    "features.json",
    "freshness at half of the live saturated rate: event due → readable in Redis, p99",
    _FRESH,
)
FRESH_SATURATED: Final = Measured(
    29804.757577238117, "events/s", "features.json", "freshness: live saturated rate", _FRESH
)
WORKER_MIB: Final = Measured(
    323.56640625,
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
MEASURED: Final = (
    *(FEATURIZE, SERVE, LEARN, STATE, FRESH_QUIET_MS, FRESH_BUSY_MS),
    *(FRESH_SATURATED, WORKER_MIB, LABEL_S),
)

QUIET_EVENTS_PER_S: Final = 200.0
"""The load of `FRESH_QUIET_MS`, as its row says."""
USED: Final = Assumed(0.5, "", "a process is planned for half of what it does flat out: peaks")
KEY_OVERHEAD: Final = Assumed(
    100.0, "B", "a guess, beside the state: the key's name, expiry and table slot"
)
COPIES: Final = Assumed(
    2.0, "", "a Redis that rewrites its append-only file may hold much of its memory twice"
)
RECORD_BYTES: Final = {
    "events.v1": Assumed(
        400.0, "B", "a guess: the payment in README.md is 205 B of JSON, without attributes"
    ),
    "updates.v1": Assumed(
        600.0, "B", "a guess for five entities; `python -m load_tests.sizes` would measure it"
    ),
    "decisions.v1": Assumed(
        3_000.0,
        "B",
        "a guess: a vector of 105 features is 560 B; then reasons, versions, the event",
    ),
}
"""Bytes per event and topic."""
VERSION_BYTES: Final = Assumed(
    210_000.0, "B", "no file: docs/models.md says so of a delta of the learners that ship"
)
ASSUMED: Final = {
    "share of a process used": USED,
    "overhead of a key": KEY_OVERHEAD,
    "copies of Redis' memory": COPIES,
    **{f"bytes of an event in {name}": one for name, one in RECORD_BYTES.items()},
    "bytes of a version": VERSION_BYTES,
}
