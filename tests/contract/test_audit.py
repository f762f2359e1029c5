"""What every audit log promises: the memory fake always, Kafka with `-m live`."""

import asyncio

import pytest

from features.topics import Topics
from models.audit import Act, AuditLog, AuditUnavailable, Entry, Stood, recorded
from models.audit_chain import START, Link, check
from models.audit_kafka import TAIL_RECORDS, KafkaAuditLog
from pipeline.topics_kafka import TopicPlan, ensure_topics
from tests.fakes_audit import MemoryAuditLog

WEEK_MS = 7 * 86_400_000


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.live)])
def broker(request: pytest.FixtureRequest) -> tuple[str, str] | None:
    """Address and prefix; None for the log in memory. Not async: it may start a broker."""
    if request.param == "memory":
        return None
    return request.getfixturevalue("kafka_bootstrap"), request.getfixturevalue("topic_prefix")


@pytest.fixture
async def log(broker: tuple[str, str] | None) -> AuditLog:
    if broker is None:
        return MemoryAuditLog()
    address, prefix = broker
    return await an_empty_topic(address, prefix)


async def an_empty_topic(address: str, prefix: str) -> KafkaAuditLog:
    options, topic = {"bootstrap_servers": address}, Topics(prefix).audit
    await ensure_topics(options, [TopicPlan(topic, 1, WEEK_MS)])
    return KafkaAuditLog(options, topic)


def an_act(number: int = 7) -> Act:
    return Act(
        subject="weights",
        verb="pin",
        target=f"version {number}",
        by="ann",
        why="alerts doubled",
        at_ms=17,
        before=Stood(what="version 9", sha256="ab" * 32),
    )


async def test_an_empty_log_holds_nothing(log: AuditLog) -> None:
    assert list(await log.read()) == []


async def test_an_act_is_kept_as_meant_and_as_done(log: AuditLog) -> None:
    async with recorded(log, an_act()) as recording:
        (meant,) = await log.read()
        assert meant.entry.state == "meant"
        recording.led_to(Stood(what="version 7"))
    kept = await log.read()
    assert [(k.offset, k.entry.state) for k in kept] == [(0, "meant"), (1, "done")]
    assert kept[0].entry.act == an_act()
    assert kept[1].entry.act.after.what == "version 7"
    assert kept[0].entry.id == kept[1].entry.id
    assert all(k.appended_at_ms > 0 for k in kept)


async def test_an_act_that_fails_says_why(log: AuditLog) -> None:
    with pytest.raises(LookupError):
        async with recorded(log, an_act()):
            raise LookupError("version 7 is not there")
    assert [k.entry.state for k in await log.read()] == ["meant", "failed"]
    assert (await log.read())[1].entry.error == "LookupError: version 7 is not there"


async def test_every_entry_claims_all_before_it(log: AuditLog) -> None:
    for number in range(3):
        await log.append(Entry(id=str(number), state="meant", act=an_act(number)))
    kept = await log.read()
    claims = [k.entry.claim for k in kept]
    assert [claim.seen for claim in claims if claim] == [0, 1, 2]
    assert claims[0] and claims[0].digest == START
    found = check(Link(k.offset, k.data, k.entry.claim) for k in kept)
    assert (found.begins, found.covered, found.ends, found.breaks) == (0, 2, 3, ())


async def test_two_that_write_at_once_both_tell_the_truth(log: AuditLog) -> None:
    acts = [Entry(id=str(n), state="meant", act=an_act(n)) for n in range(4)]
    await asyncio.gather(*(log.append(entry) for entry in acts))
    kept = await log.read()
    assert {k.entry.id for k in kept} == {"0", "1", "2", "3"}
    assert check(Link(k.offset, k.data, k.entry.claim) for k in kept).breaks == ()


@pytest.mark.live
async def test_a_long_log_is_continued_from_its_tail(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    log = await an_empty_topic(kafka_bootstrap, topic_prefix)
    for number in range(TAIL_RECORDS + 3):
        await log.append(Entry(id=str(number), state="meant", act=an_act(number)))
    found = check(Link(k.offset, k.data, k.entry.claim) for k in await log.read())
    assert (found.covered, found.breaks) == (TAIL_RECORDS + 2, ())


@pytest.mark.live
async def test_a_topic_that_is_not_there_is_named(kafka_bootstrap: str, topic_prefix: str) -> None:
    log = KafkaAuditLog({"bootstrap_servers": kafka_bootstrap}, Topics(topic_prefix).audit)
    with pytest.raises(AuditUnavailable, match="riskbeat topics"):
        await log.append(Entry(id="1", state="meant", act=an_act()))


async def test_a_broker_that_is_away_stops_the_act() -> None:
    log = KafkaAuditLog({"bootstrap_servers": "127.0.0.1:1"}, "audit")
    happened = False
    with pytest.raises(AuditUnavailable):
        async with recorded(log, an_act()):
            happened = True
    assert not happened
