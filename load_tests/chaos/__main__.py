"""`python -m load_tests.chaos --seeds N --out FILE`: the lab. The whole path, broken on purpose.

Each seed starts a deployment of its own (two featurize workers, a learner and its standby, a scorer
and its spare, Apache Kafka, Redis with its append-only file) under load over HTTP, on the stream
and of labels, with poison between, and draws faults that follow one another. Then everything is
held against the log: events counted once, answers recorded and made again, labels learned once,
versions in a row.

What a seed found is appended to FILE; a later run adds other seeds to it. A seed that fails prints
the command that repeats it; its faults are drawn again alike, when they hit is up to the machine.
"""

import argparse
import json
import logging
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from load_tests.chaos.check import judge
from load_tests.chaos.faults import CLOCK, FAULTS
from load_tests.chaos.servers import Servers, the_servers
from load_tests.chaos.stage import Stage, a_stage
from load_tests.processes import stopped_by_signals
from load_tests.report import COMMIT, Row, machine, write

NAME = "chaos"
SEEDS, QUICK_SEEDS = 20, 1
FAULTS_PER_SEED, QUICK_FAULTS = 5, 2
BETWEEN_S = (0.5, 3.0)
NOT_JUDGED = "not judged, the lab failed"
MUST_SEEDS = 20
MUST_FAULTS, AIM_FAULTS = 300, 1_000
RECOVERY = {  # seconds to move again: must, aim (a worker: 6 s of it is detection)
    "kill -9 of a worker": (8, 7),
    "kill -9 of the learner": (5, 2),
    "kill -9 of the scorer": (5, 2),
    "Redis loses its last second": (10, 5),
    "restart of Kafka": (20, 10),
}


@dataclass(frozen=True)
class Trial:
    """What one seed found.

    Attributes:
        wrong: What is wrong → how often; every count should be 0.
        back_s: (kind of fault, seconds until everything moved again), in order.
    """

    seed: int
    commit: str
    machine: str
    date: str
    seconds: float
    wrong: dict[str, int]
    words: dict[str, str]
    back_s: list[tuple[str, float]]
    counts: dict[str, Any]

    @property
    def good(self) -> bool:
        """Whether nothing was wrong."""
        return not any(self.wrong.values())


def attempt(seed: int, kinds: Sequence[str], faults: int, folder: Path, servers: Servers) -> Trial:
    """Run one seed."""
    start_s = time.monotonic()

    def say(words: str) -> None:
        print(f"  seed {seed} {time.monotonic() - start_s:6.1f} s  {words}", flush=True)

    folder.mkdir(parents=True)
    drawn = random.Random(seed).sample(kinds, faults)
    with a_stage(folder, servers, seed, say, with_clock=CLOCK in drawn) as stage:
        say("everything moves")
        for kind in drawn:
            stage.crew.pause(stage.draw.uniform(*BETWEEN_S))
            stage.strike(kind, FAULTS[kind])
        found = judge(stage)
        told = stage.load.told
        _keep_times(stage, folder / "load.json")
        for what, count in found.wrong.items():
            if count:
                say(f"WRONG {what}: {count}: {found.words[what]}")
        return Trial(
            seed=seed,
            commit=COMMIT,
            machine=machine(),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - start_s, 1),
            wrong=found.wrong,
            words=found.words,
            back_s=[(blow.kind, round(blow.back_s, 3)) for blow in stage.blows],
            counts={
                "events": found.events,
                "decisions": found.decisions,
                "versions": found.versions,
                "labels": told.labels,
                "poison": told.poison,
                "recomputed": found.recomputed,
                "statuses": {str(k): v for k, v in sorted(told.statuses.items())},
                "ended by themselves": dict(stage.crew.ends),
            },
        )


def unjudged(seed: int, why: str) -> Trial:
    """Return the trial of a seed that the lab did not bring to its end: it shows nothing."""
    counts = dict.fromkeys(("events", "decisions", "labels", "poison", "recomputed"), 0)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Trial(seed, COMMIT, machine(), date, 0.0, {NOT_JUDGED: 1}, {NOT_JUDGED: why}, [], counts)


def _keep_times(stage: Stage, path: Path) -> None:
    """Write down when what was asked, answered, refused and broken; for a reader of a failure."""
    told = stage.load.told
    times = {
        "answers": [(one.asked_at_s, one.took_s) for one in told.answers.values()],
        "refusals": told.refusals,
        "faults": told.faults,
        "own delays": told.own_delays,
        "blows": [(one.kind, one.begun_s, one.healed_s, one.back_s) for one in stage.blows],
    }
    path.write_text(json.dumps(times))


def rows_of(trials: Sequence[Trial]) -> list[Row]:
    """Return the figures of all seeds together."""
    judged = sum(NOT_JUDGED not in trial.wrong for trial in trials)
    faults = sum(len(trial.back_s) for trial in trials)
    rows = [
        Row("seeds", judged, "seeds", MUST_SEEDS),
        Row("faults", faults, "faults", MUST_FAULTS, AIM_FAULTS),
    ]
    for name in ("events", "decisions", "labels", "poison", "recomputed"):
        rows.append(Row(name, sum(trial.counts[name] for trial in trials), name))
    for what in dict.fromkeys(what for trial in trials for what in trial.wrong):
        guilty = [trial.seed for trial in trials if trial.wrong.get(what)]
        count = sum(trial.wrong.get(what, 0) for trial in trials)
        note = f"seeds {guilty}" if guilty else ""
        rows.append(Row(what, count, "", 0, 0, "lower", note))
    kinds = dict.fromkeys([*FAULTS, *(kind for trial in trials for kind, _ in trial.back_s)])
    for kind in kinds:  # also those that older runs had
        back = [s for trial in trials for found, s in trial.back_s if found == kind]
        if back:
            must, aim = RECOVERY.get(kind, (None, None))
            p50, p99 = np.quantile(back, [0.5, 0.99], method="higher")
            often = f"{len(back)} times"
            rows.append(Row(f"{kind}: back after, p50", p50, "s", must, aim, "lower", often))
            rows.append(Row(f"{kind}: back after, p99", p99, "s", better="lower"))
    return rows


def read_trials(path: Path) -> list[Trial]:
    """Return what earlier runs found."""
    if not path.exists():
        return []
    return [Trial(**trial) for trial in json.loads(path.read_text()).get("trials", [])]


def keep(path: Path, trials: Sequence[Trial]) -> bool:
    """Write the figures of all seeds, and each seed's own behind them."""
    good = write(NAME, rows_of(trials), path)
    document = json.loads(path.read_text())
    document["trials"] = [asdict(trial) for trial in trials]
    path.write_text(json.dumps(document, indent=1) + "\n")
    return good


def main() -> int:
    """Run from the command line; return 1 when a seed found anything wrong."""
    parser = argparse.ArgumentParser(prog=f"python -m load_tests.{NAME}")
    parser.add_argument("--seeds", type=int, help=f"how many (default {SEEDS})")
    parser.add_argument("--first", type=int, help="the first seed (default: the next of FILE)")
    parser.add_argument("--faults", type=int, default=FAULTS_PER_SEED, help="of each seed")
    parser.add_argument("--only", help=f"of these kinds, by comma: {', '.join(FAULTS)}")
    parser.add_argument("--quick", action="store_true", help="one seed of two faults")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to add to")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this folder")
    asked = parser.parse_args()
    seeds = asked.seeds or (QUICK_SEEDS if asked.quick else SEEDS)
    faults = QUICK_FAULTS if asked.quick else asked.faults
    kinds = asked.only.split(",") if asked.only else list(FAULTS)
    if strange := set(kinds) - set(FAULTS):
        parser.error(f"--only: there is no fault {', '.join(sorted(strange))}")
    faults = min(faults, len(kinds))
    trials = read_trials(asked.out)
    first = asked.first or max((trial.seed for trial in trials), default=0) + 1
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that is away is no news
    bad = 0
    with stopped_by_signals(), tempfile.TemporaryDirectory(prefix="riskbeat-chaos-") as made:
        folder = asked.keep or Path(made)
        with ExitStack() as shared:
            servers = shared.enter_context(the_servers(folder))
            for seed in range(first, first + seeds):
                again = f"python -m load_tests.{NAME} --seeds 1 --first {seed} --faults {faults}"
                again += f' --only "{asked.only}"' if asked.only else ""
                print(again, flush=True)
                try:
                    trial = attempt(seed, kinds, faults, folder / f"seed-{seed}", servers)
                except (RuntimeError, TimeoutError, OSError) as error:
                    trial = unjudged(seed, f"{type(error).__name__}: {error}")
                    print(f"  seed {seed}: {NOT_JUDGED}: {trial.words[NOT_JUDGED]}", flush=True)
                    shared.close()  # who knows how it left them
                    servers = shared.enter_context(the_servers(folder / f"after-{seed}"))
                trials = [t for t in trials if t.seed != seed] + [trial]
                if not trial.good:
                    bad += 1
                    print(f"seed {seed} is wrong; again with: {again}", file=sys.stderr)
                keep(asked.out, trials)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
