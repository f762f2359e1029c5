"""`python -m load_tests.handbook_features`: the book's features, backfilled, against SQL.

`riskbeat backfill` computes the features of the Handbook's chapter 3 for every row of its log, and
DuckDB computes them from the table by the book's definition ("Baseline feature transformation"):
windows that hold their right end and not their left one, the transaction itself included, and for
terminals the same windows ended seven days earlier. Ties within a millisecond go by log order: a
later row of the same instant is not known yet, and a label that becomes known at an event's very
instant comes after it. The book's own program counts that label; how many rows this touches is
told. `RISKBEAT_HANDBOOK` names the Parquet file; without it nothing is run, and the rows say so.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb

from load_tests.report import ROOT, Row, main

QUICK_EVENTS = 200_000
SPEC = ROOT / "load_tests" / "handbook_features.yaml"
DAYS = {"24h": 1, "7d": 7, "30d": 30}
DAY_MS = 86_400_000
DELAY_MS = 7 * DAY_MS
TRUST_NO_STATISTICS = "set disabled_optimizers = 'statistics_propagation'"  # they hide NaN
TABLE = """
create table tx as select
    row_number() over () - 1 as place, TRANSACTION_ID::varchar as id,
    CUSTOMER_ID as card, TERMINAL_ID as merchant, epoch_ms(TX_DATETIME) as t,
    round(TX_AMOUNT * 100)::bigint as cents, TX_FRAUD::bigint as fraud
from (select * from read_parquet(?) limit ?)
"""


def window(entity: str, ms: int, what: str) -> str:
    """Return SQL of an aggregate over a window, less the rows of this instant that come later."""
    over = f"partition by {entity} order by t range between {ms - 1} preceding and current row"
    behind = "rows between 1 following and unbounded following"
    later = f"partition by {entity}, t order by place {behind}"
    return f"({what} over ({over}) - coalesce({what} over ({later}), 0))"


def delayed(ms: int, what: str, *, with_now: bool) -> str:
    """Return SQL of an aggregate over a terminal's window that ended seven days ago."""
    end = DELAY_MS if with_now else DELAY_MS + 1
    return (
        f"coalesce({what} over (partition by merchant order by t range between"
        f" {DELAY_MS + ms - 1} preceding and {end} preceding), 0)"
    )


def definitions() -> dict[str, tuple[str, str]]:
    """Return feature → its SQL by log order, and as the book's program has it at equal instants."""
    found: dict[str, tuple[str, str]] = {}
    for name, days in DAYS.items():
        ms = days * DAY_MS
        count = window("card", ms, "count(*)")
        mean = f"({window('card', ms, 'sum(cents)')}::double / {count})"
        of_merchant = window("merchant", ms, "count(*)")
        found[f"card.count_over_{name}"] = (count, count)
        found[f"card.mean_of_amount_over_{name}"] = (mean, mean)
        found[f"merchant.count_over_{name}"] = (of_merchant, of_merchant)
        known, risk = [], []
        for with_now in (False, True):
            labels = delayed(ms, "count(*)", with_now=with_now)
            frauds = delayed(ms, "sum(fraud)", with_now=with_now)
            known.append(labels)
            risk.append(f"(case when {labels} = 0 then null else {frauds}::double / {labels} end)")
        found[f"merchant.label_count_over_{name}"] = (known[0], known[1])
        found[f"merchant.fraud_rate_over_{name}"] = (risk[0], risk[1])
    return found


def compare(
    database: duckdb.DuckDBPyConnection, feature: str, sql: str
) -> tuple[int, float, float]:
    """Return (rows that differ, largest difference, mean difference) of a backfilled feature."""
    database.execute(f"create or replace temp table sql_made as select id, {sql} as wanted from tx")
    row = database.execute(
        f"""
        with pairs as (
            select case when isnan("{feature}") then null else "{feature}" end as got,
                wanted::float as wanted
            from backfilled join sql_made on backfilled.event_id = sql_made.id
        )
        select count(*) filter (got is distinct from wanted),
            max(abs(coalesce(got, 0) - coalesce(wanted, 0))),
            avg(abs(coalesce(got, 0) - coalesce(wanted, 0))), count(*)
        from pairs
        """
    ).fetchone()
    assert row is not None
    differ, largest, mean, _ = row
    return int(differ), float(largest), float(mean)


def backfill(handbook: str, out: Path, events: int, workers: int) -> list[Row]:
    """Run the command; return what it took."""
    command = [
        *(str(Path(sys.executable).parent / "riskbeat"), "backfill", handbook),
        *("--mapping", "handbook", "--spec", str(SPEC), "--legit-after", "0s"),
        *("--out", str(out), "--limit", str(events), "--workers", str(workers), "--no-progress"),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    note = f"{events} events and the labels known by then, {workers} processes beside the reader"
    return [
        Row("riskbeat backfill", seconds, "s", 120, 60, "lower", note),
        Row("riskbeat backfill: CPU", spent, "CPU-s", better="lower"),
        Row("riskbeat backfill: events per CPU-second", events / spent, "events/CPU-s"),
        Row("riskbeat backfill: largest process", after.ru_maxrss / 1024, "MiB", better="lower"),
    ]


def measure_on(handbook: str, quick: bool) -> list[Row]:
    """Backfill the log, compute the same by SQL, and compare every row."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as database:
        out = Path(folder) / "vectors.parquet"
        count = database.execute("select count(*) from read_parquet(?)", [handbook]).fetchone()
        assert count is not None
        events = min(int(count[0]), QUICK_EVENTS) if quick else int(count[0])
        rows = backfill(handbook, out, events, len(os.sched_getaffinity(0)))
        database.execute("set preserve_insertion_order = true")
        database.execute(TRUST_NO_STATISTICS)
        database.execute(TABLE, [handbook, events])
        database.execute("create view backfilled as select * from read_parquet('" + str(out) + "')")
        written = database.execute(
            "select count(*), count(distinct event_id), count(*) filter (late_question)"
            " from backfilled"
        ).fetchone()
        assert written is not None
        rows.append(Row("events without a vector", events - written[1], "rows", 0, 0, "lower"))
        rows.append(Row("late questions", written[2], "rows", 0, 0, "lower"))
        for feature, (by_order, as_the_book) in definitions().items():
            differ, largest, mean = compare(database, feature, by_order)
            note = f"largest difference {largest:g}, mean {mean:g}, of {written[0]} rows"
            rows.append(Row(f"{feature}: rows unlike SQL", differ, "rows", 0, 0, "lower", note))
            if as_the_book != by_order:
                differ, largest, mean = compare(database, feature, as_the_book)
                what = f"{feature}: rows where a label of the very instant makes the book's differ"
                note = f"largest difference {largest:g}, mean {mean:g}"
                rows.append(Row(what, differ, "rows", better="lower", note=note))
    return rows


def measure(quick: bool) -> Sequence[Row]:
    """Measure, where there is a copy of the log."""
    handbook = os.environ.get("RISKBEAT_HANDBOOK")
    if not handbook:
        return [Row("the book's features", None, "rows", note="RISKBEAT_HANDBOOK is not set")]
    return measure_on(handbook, quick)


if __name__ == "__main__":
    main("handbook_features", measure)
