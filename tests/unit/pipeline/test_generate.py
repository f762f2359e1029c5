"""The generated log: the same for the same seed, honest people with habits, frauds that change."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.event import EventRules, EventType, parse_event
from pipeline import generate as generate_module
from pipeline.generate import BadGenerateConfig, GenerateConfig, generate
from pipeline.generate_payments import DAY_MS
from pipeline.generate_schedule import SCHEDULE
from pipeline.generate_write import write_log
from pipeline.mapping import LogMapping, find_mapping
from pipeline.mapping_rows import ColumnMapping
from pipeline.replay_rows import EVENT
from pipeline.replay_source import open_log

RULES = EventRules({"card_payment": EventType("card")}, frozenset({"EUR", "GBP"}))
CONFIG = GenerateConfig(seed=7, events=60_000)


def make(config: GenerateConfig) -> pl.DataFrame:
    return pl.concat(generate(config))


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    instant = pl.col("event_time", "label_time", "label2_time").str.to_datetime(
        time_unit="ms", time_zone="UTC"
    )
    start_ms = int(CONFIG.start.timestamp() * 1000)
    return (
        make(CONFIG)
        .with_columns(instant)
        .with_columns(at=(pl.col("event_time").dt.epoch("ms") - start_ms) / (CONFIG.days * DAY_MS))
    )


def test_a_log_has_as_many_rows_as_asked_in_order_of_time(log: pl.DataFrame) -> None:
    assert len(log) == 60_000
    assert log["event_time"].is_sorted()
    assert log["event_id"].n_unique() == 60_000
    assert log["at"].min() >= 0
    assert log["at"].max() < 1


@pytest.mark.parametrize("events", [1, 2, 99, 1000])
def test_a_small_log_has_exactly_its_rows(events: int) -> None:
    assert len(make(GenerateConfig(events=events, days=3))) == events


def test_the_same_seed_makes_the_same_log_and_another_another() -> None:
    config = GenerateConfig(seed=3, events=5_000)
    assert make(config).equals(make(config))
    assert not make(config)["card"].equals(make(GenerateConfig(seed=4, events=5_000))["card"])


def test_chunks_do_not_change_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(GenerateConfig(events=20_000))
    monkeypatch.setattr(generate_module, "CHUNK_EVENTS", 700)
    frames = list(generate(GenerateConfig(events=20_000)))
    assert len(frames) > 10
    # slots may be finer, so times within an hour move; who pays what does not
    assert pl.concat(frames)["is_fraud"].sum() == whole["is_fraud"].sum()
    assert len(pl.concat(frames)) == len(whole)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz", ".jsonl"])
def test_every_format_is_the_same_bytes_again_and_means_the_same(
    tmp_path: Path, suffix: str
) -> None:
    config = GenerateConfig(events=3_000)
    digests = set()
    for name in ("a", "b"):
        path = tmp_path / f"{name}{suffix}"
        assert write_log(path, generate(config)) == 3_000
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]
    mapping = ColumnMapping(LogMapping.load(find_mapping("generator")))
    log = open_log(tmp_path / f"a{suffix}")
    chunks = [mapping.items_of(chunk) for chunk in log.chunks()]
    assert all(chunk.bad == [] for chunk in chunks)
    items = pl.concat([chunk.items for chunk in chunks]).filter(pl.col("kind") == EVENT)
    source = make(config)
    for body, row in zip(items["body"], source.iter_rows(named=True), strict=True):
        event = parse_event(body, RULES, appended_ms=2**41)
        assert event.event_id == row["event_id"]
        assert event.amount is not None
        assert event.amount.value == row["amount_minor"]
        known = {n: row[n] for n in ("card", "merchant", "device", "ip") if row[n] is not None}
        assert event.entities == known


def test_a_name_with_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadGenerateConfig, match=r"\.parquet"):
        write_log(tmp_path / "log.xlsx", generate(GenerateConfig(events=10)))


@pytest.mark.parametrize(
    "bad",
    [
        {"events": 0},
        {"days": 0},
        {"fraud_rate": 0.5},
        {"label_delay_scale": 0},
        {"customers": -1},
        {"start": datetime(2025, 1, 1)},  # noqa: DTZ001
    ],
)
def test_a_config_out_of_range_is_refused_by_name(bad: dict[str, object]) -> None:
    with pytest.raises(BadGenerateConfig, match=next(iter(bad))):
        GenerateConfig(**bad)  # type: ignore[arg-type]


def test_the_fraud_rate_is_met_and_every_third_has_its_share(log: pl.DataFrame) -> None:
    assert log["is_fraud"].sum() == round(60_000 * CONFIG.fraud_rate)
    thirds = log.group_by((pl.col("at") * 3).floor()).agg(pl.col("is_fraud").mean())
    assert len(thirds) == 3
    assert thirds["is_fraud"].min() > 0.007
    assert thirds["is_fraud"].max() < 0.016


def test_no_fraud_when_none_is_asked_for() -> None:
    assert make(GenerateConfig(events=2_000, fraud_rate=0))["is_fraud"].sum() == 0


def test_attacks_start_and_stop_with_their_schedule(log: pl.DataFrame) -> None:
    frauds = log.filter(pl.col("is_fraud") == 1)
    for scenario in {name for name, *_ in SCHEDULE}:
        waves = [(begin, end) for name, begin, end, _ in SCHEDULE if name == scenario]
        times = frauds.filter(pl.col("scenario") == scenario)["at"]
        assert len(times) > 20
        within = [any(begin <= at <= end for begin, end in waves) for at in times]
        assert all(within), scenario
    first = set(frauds.filter(pl.col("at") < 1 / 3)["scenario"])
    last = set(frauds.filter(pl.col("at") > 2 / 3)["scenario"])
    assert last - first == {"slow_card_testing", "quiet_stolen_card", "account_takeover"}
    assert first - last == {"card_testing", "stolen_card"}


def test_card_testing_is_many_cards_on_few_devices_at_one_merchant(log: pl.DataFrame) -> None:
    bursts = log.filter(pl.col("scenario") == "card_testing")
    by_merchant = bursts.group_by("merchant").agg(
        pl.col("card").n_unique().alias("cards"), pl.col("device").n_unique().alias("devices")
    )
    largest = by_merchant.sort("cards").row(-1, named=True)
    assert largest["cards"] > 25
    assert largest["devices"] <= 12
    assert bursts["amount_minor"].max() <= 500


def test_a_taken_over_account_is_used_on_a_device_never_seen_before(log: pl.DataFrame) -> None:
    taken = log.filter(pl.col("scenario") == "account_takeover")
    honest = log.filter(pl.col("is_fraud") == 0)
    assert not set(taken["device"]) & set(honest["device"].drop_nulls())


def test_compromised_cards_paid_honestly_before(log: pl.DataFrame) -> None:
    rings = log.filter(pl.col("scenario") == "compromised_merchant")
    for card, first in rings.group_by("card").agg(pl.col("event_time").min()).iter_rows():
        before = log.filter(
            (pl.col("card") == card) & (pl.col("event_time") < first) & (pl.col("is_fraud") == 0)
        )
        assert len(before) >= 1


def test_honest_people_sleep_and_shop_before_the_weekend(log: pl.DataFrame) -> None:
    honest = log.filter((pl.col("is_fraud") == 0) & (pl.col("at") < 0.4))
    hours = dict(honest.group_by(pl.col("event_time").dt.hour()).len().iter_rows())
    assert hours[3] < 0.25 * hours[12]
    days = dict(honest.group_by(pl.col("event_time").dt.weekday()).len().iter_rows())
    whole_weeks = {day: days[day] for day in days}
    assert whole_weeks[5] > 1.05 * whole_weeks[3]
    assert whole_weeks[7] < whole_weeks[5]


def test_honest_behaviour_drifts_in_the_second_half_unless_told_not_to(log: pl.DataFrame) -> None:
    def shift(frame: pl.DataFrame) -> tuple[float, float]:
        honest = frame.filter(pl.col("is_fraud") == 0)
        third = (pl.int_range(pl.len()) * 3 // pl.len()).alias("third")
        stats = (
            honest.with_columns(third)
            .group_by("third")
            .agg(
                pl.col("amount_minor").cast(pl.Float64).median(),
                (pl.col("channel") == "ecom").mean(),
            )
            .sort("third")
        )
        return (
            stats["amount_minor"][2] / stats["amount_minor"][0],
            stats["channel"][2] - stats["channel"][0],
        )

    amounts, online = shift(log)
    assert amounts > 1.15
    assert online > 0.12
    amounts, online = shift(make(GenerateConfig(seed=7, events=60_000, drift=False)))
    assert abs(amounts - 1) < 0.06
    assert abs(online) < 0.03


def test_amounts_depend_on_what_is_sold(log: pl.DataFrame) -> None:
    medians = dict(
        log.filter(pl.col("is_fraud") == 0)
        .group_by("mcc")
        .agg(pl.col("amount_minor").median())
        .iter_rows()
    )
    assert medians["5944"] > 3 * medians["5411"] > 3 * medians["4111"] / 2


def test_labels_come_late_and_in_their_ways(log: pl.DataFrame) -> None:
    late = log.with_columns(
        delay_h=(pl.col("label_time") - pl.col("event_time")).dt.total_milliseconds() / 3.6e6
    )
    assert late["delay_h"].min() > 0
    reviews = late.filter(pl.col("label_source") == "manual_review")["delay_h"]
    chargebacks = late.filter(pl.col("label_source") == "chargeback")["delay_h"]
    assert 2 < reviews.median() < 4.5
    assert 48 < chargebacks.median() < 75
    frauds = late.filter(pl.col("is_fraud") == 1)
    known = frauds.filter((pl.col("label") == "fraud") | (pl.col("label2") == "fraud"))
    assert 0.9 < len(known) / len(frauds) < 0.99
    assert late.filter((pl.col("is_fraud") == 0) & (pl.col("label") == "legit")).height > 50


def test_disputes_are_withdrawn_and_analysts_are_corrected(log: pl.DataFrame) -> None:
    disputed = log.filter((pl.col("is_fraud") == 0) & (pl.col("label") == "fraud"))
    assert len(disputed) > 3
    assert set(disputed["label2_state"]) == {"reversed"}
    assert (disputed["label2_time"] > disputed["label_time"]).all()
    erred = log.filter((pl.col("is_fraud") == 1) & (pl.col("label") == "legit"))
    assert set(erred["label2_source"]) <= {"chargeback"}
    assert (erred["label2_time"] > erred["label_time"]).all()


def test_label_delays_scale(log: pl.DataFrame) -> None:
    quick = make(GenerateConfig(seed=7, events=60_000, label_delay_scale=0.1))
    delays = quick.select(
        (
            pl.col("label_time").str.to_datetime(time_unit="ms", time_zone="UTC")
            - pl.col("event_time").str.to_datetime(time_unit="ms", time_zone="UTC")
        ).dt.total_milliseconds()
    ).to_series()
    usual = (log["label_time"] - log["event_time"]).dt.total_milliseconds()
    assert 0.09 < delays.median() / usual.median() < 0.11


def test_the_start_is_kept() -> None:
    start = datetime(2024, 2, 28, 12, tzinfo=UTC)
    first = make(GenerateConfig(events=500, days=2, start=start))["event_time"][0]
    assert first.startswith("2024-02-28T12")
