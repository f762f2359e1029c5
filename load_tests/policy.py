"""`python -m load_tests.policy`: what rules and lists cost a decision.

No network: events, vectors and scores in, rulings out. CPU time of one thread, the best of several
rounds: what the machine does when nothing else asks for it.
"""

import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from features.event import Amount, Event, from_ms
from features.spec import Spec
from load_tests.report import ROOT, Row, main
from models.policy_cel import CelCompiler
from models.policy_list_copy import ListCopy
from models.policy_lists import ListEntry
from models.policy_ruling import Rulebook, Ruler, Scored, compile_policy

NOW_MS = 1_772_366_400_000
RULES = (0, 10, 100)
ENTRIES = 1_000_000
LOADED_TOGETHER = 2_000
BATCHES = (1, 64)
MISSING_SHARE = 0.3
MIB = 1024 * 1024


def cpu_us(call: Callable[[], object], rounds: int, repeats: int) -> float:
    """Return CPU microseconds of this thread for one call, in the best of the rounds."""
    best = math.inf
    for _ in range(rounds):
        begun = time.thread_time()
        for _ in range(repeats):
            call()
        best = min(best, (time.thread_time() - begun) / repeats)
    return best * 1e6


def a_book(spec: Spec, rules: int) -> Rulebook:
    """Return the shipped policy with rules that look and do not hit, as most do not."""
    names = itertools.cycle(name for name in spec.feature_names if not name.startswith("event."))
    lines = [
        f"  - {{id: r{i}, outcome: review, when: 'amount.base > {100_000 + i} && "
        f"{next(names)} > {1000 + i}.0 && score.probability > 0.3'}}\n"
        for i in range(rules)
    ]
    text = (ROOT / "policy.yaml").read_text() + ("\nrules:\n" + "".join(lines) if lines else "")
    return compile_policy(text, "policy.yaml", spec, CelCompiler)


def events_of(count: int) -> list[Event]:
    return [
        Event(
            event_type="card_payment",
            event_id=f"p{i}",
            event_time=from_ms(NOW_MS),
            entities={"card": f"c{i}", "merchant": f"m{i}", "device": f"d{i}", "ip": f"ip{i}"},
            amount=Amount(200_000, "EUR"),
        )
        for i in range(count)
    ]


def cost(ruler: Ruler, X: np.ndarray, quick: bool) -> float:
    """Return CPU microseconds of one decision of a batch as large as X."""
    events = events_of(len(X))
    scored = Scored([0.1] * len(X), [0.5] * len(X))
    repeats = max(20, (400 if quick else 2_000) // len(X))
    took_us = cpu_us(lambda: ruler.rule_many(events, X, scored, NOW_MS), 5, repeats)
    return took_us / len(X)


def a_large_copy(entries: int) -> tuple[ListCopy, float]:
    """Return a copy with so many deny entries, and the CPU seconds that filling it took."""
    copy = ListCopy()
    begun = time.thread_time()
    for at in range(0, entries, LOADED_TOGETHER):
        names = range(at, min(at + LOADED_TOGETHER, entries))
        copy.load(
            [ListEntry(list="deny", entity="card", id=f"tok_{i}", reason="ring") for i in names]
        )
    copy.settle()
    return copy, time.thread_time() - begun


def measure(quick: bool) -> list[Row]:
    spec = Spec.load(Path(ROOT / "features.yaml"))
    rng = np.random.default_rng(5)
    rows: list[Row] = []
    for rules, batch in itertools.product(RULES, BATCHES):
        begun = time.thread_time()
        book = a_book(spec, rules)
        compile_ms = (time.thread_time() - begun) * 1000
        X = rng.uniform(0, 10, (batch, spec.n_features)).astype(np.float32)
        what = f"{rules} rules, batch of {batch}"
        told = f"compiled in {compile_ms:.0f} ms"
        full_us = cost(Ruler(spec, book), X, quick)
        rows.append(Row(f"{what}: CPU of a decision", full_us, "µs", better="lower", note=told))
        X[rng.uniform(size=X.shape) < MISSING_SHARE] = np.nan
        some_us = cost(Ruler(spec, book), X, quick)
        rows.append(Row(f"{what}, 30 % of features missing", some_us, "µs", better="lower"))
    entries = ENTRIES // 10 if quick else ENTRIES
    copy, took_s = a_large_copy(entries)
    rows.append(Row(f"{entries} deny entries: CPU to load", took_s, "s", better="lower"))
    rows.append(Row(f"{entries} deny entries: memory", copy.bytes / MIB, "MiB", better="lower"))
    for batch in BATCHES:
        ruler = Ruler(spec, a_book(spec, 0))
        ruler.lists = copy
        X = np.zeros((batch, spec.n_features), np.float32)
        what = f"{entries} deny entries, no rules, batch of {batch}: CPU of a decision"
        rows.append(Row(what, cost(ruler, X, quick), "µs", better="lower"))
    return rows


if __name__ == "__main__":
    main("policy", measure)
