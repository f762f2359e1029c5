"""random streams → kernel = brute force = SQL: a proof of exactness that anyone can run.

    python -m load_tests.exactness --out dist/load/exactness.json

Each stream is one entity's events and labels: late, repeated, tied in time, in bursts, with the
clock jumping forwards and back, amounts up to ±2⁴⁴, fields absent, places at the poles and on both
sides of the antimeridian, labels taken back. Its state is made three times (at once; in order of
arrival with repeats, in random batches; in random order, in random batches) and must be the same
bytes. Then it is asked at, just before, after and between events, at the far edges of windows and
after long silence. Every feature must equal what Python's integers say (`tests/oracle.py`) and what
SQL says over the plain table of rows (`tests/oracle_sql.py`), which knows of no state at all: bit
for bit where the spec says exact, else within the stated bound (`tests/oracle_answer.py`).

The first difference ends the run with exit code 1 and the command that repeats that stream alone.
It needs no service, no data, and one core; streams are numbered, and a number is always the same
stream.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from features.spec import Spec
from features.window import warm_up
from load_tests.report import Row, write
from tests.oracle_sql import SqlOracle
from tests.oracle_streams import EVERY_AGGREGATE, Seeded, Stream, spec_in
from tests.oracle_trial import Tally, Trial, sql_connection

STREAMS = 20_000
STREAMS_QUICK = 1_500
BATCH = 50
QUESTIONS = 16


@dataclass(frozen=True)
class Shape:
    """How a share of the streams differs from the others.

    Attributes:
        rows: Most rows of a stream.
        blob_max_bytes: Small makes tiles wider.
    """

    head_events: int
    label_head_events: int
    rows: int
    blob_max_bytes: int = 262_144

    def spec(self, folder: Path) -> Spec:
        """Return the spec with every aggregate, in this shape."""
        text = EVERY_AGGREGATE.replace(
            "label_head_events: 3", f"label_head_events: {self.label_head_events}"
        )
        text = text.replace("{head_events: 4", f"{{head_events: {self.head_events}")
        return spec_in(text.replace("262144", str(self.blob_max_bytes)), folder)


SHAPES = (
    Shape(4, 3, 40),
    Shape(4, 3, 40, blob_max_bytes=12_000),
    Shape(2, 1, 24),
    Shape(3, 2, 30),
    Shape(16, 8, 150),
)


def streams_of(trial: Trial, shape: Shape, numbers: range) -> dict[str, Stream]:
    """Return the streams of these numbers; a number decides all about its stream."""
    return {
        f"stream {n}": Stream.drawn(
            Seeded(random.Random(f"{trial.entity.name} {n}")), trial.spec, trial.entity, shape.rows
        )
        for n in numbers
    }


def run(first: int, streams: int, folder: Path) -> tuple[Tally, list[str]]:
    """Compare so many streams of each shape, from a number on, until one differs."""
    tally = Tally()
    warm_up(SHAPES[0].spec(folder))
    with sql_connection() as sql:
        for shape in SHAPES:
            spec = shape.spec(folder)
            for entity in spec.entities:
                trial = Trial(spec, entity, SqlOracle(spec, entity, sql), tally)
                for low in range(first, first + streams, BATCH):
                    numbers = range(low, min(low + BATCH, first + streams))
                    found = trial.differences(streams_of(trial, shape, numbers), QUESTIONS)
                    if found:
                        return tally, [f"{shape}: {text}" for text in found]
    return tally, []


def rows_of(tally: Tally, differences: int, took_s: float) -> list[Row]:
    """Return the counts as rows of the project's one form."""
    values = sum(tally.values.values())
    rows = [
        Row(
            "differences from brute force and SQL",
            differences,
            "values",
            must=0,
            aim=0,
            better="lower",
        ),
        Row(
            "states made (orders, batches, repeats) and compared byte by byte",
            tally.states,
            "states",
        ),
        Row("rows in the streams", tally.rows, "rows"),
        Row("questions answered and compared", tally.questions, "questions"),
        Row("questions too late, and flagged so", tally.flagged, "questions"),
        Row("windows that reach behind the head (tiles)", tally.tiled, "windows"),
        Row("features compared", values, "values"),
    ]
    rows += [
        Row(
            f"features compared: {name}",
            count,
            "values",
            note=f"{missing(tally.missing, name)} missing",
        )
        for name, count in sorted(tally.values.items())
    ]
    return [*rows, Row("processor time", took_s, "s", better="lower")]


def missing(counts: Counter[str], name: str) -> int:
    """Return how many of an aggregate's values were missing, by all three."""
    return counts[name]


def main() -> None:
    """Run from the command line; exit 1 at the first difference."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.exactness")
    parser.add_argument("--quick", action="store_true", help="fewer streams, within 60 s")
    parser.add_argument("--streams", type=int, help=f"how many streams (default {STREAMS})")
    parser.add_argument("--first", type=int, default=0, help="number of the first stream")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    streams = arguments.streams or (STREAMS_QUICK if arguments.quick else STREAMS)
    began_s = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        tally, found = run(arguments.first, max(1, streams // len(SHAPES)), Path(folder))
    for text in found[:10]:
        print(text)
    if found:
        number = found[0].split("stream ")[1].split(":")[0]
        print(f"repeat: {parser.prog} --first {number} --streams 1 --out {arguments.out}")
    rows = rows_of(tally, len(found), time.process_time() - began_s)
    sys.exit(0 if write("exactness", rows, arguments.out) else 1)


if __name__ == "__main__":
    main()
