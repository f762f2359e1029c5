"""Acts on versions are recorded before they happen; the log is told act by act, and checked."""

from datetime import UTC, datetime

import pytest
import typer
from typer.testing import CliRunner

from models import registry_acts as model_acts
from models.audit import Act, AuditUnavailable, Entry
from models.registry import Freeze, NoWeights
from models.weights import sha256_of
from riskbeat.audit import checked, fold, wanted
from riskbeat.commands_audit import _since, register
from tests.fakes_audit import MemoryAuditLog
from tests.fakes_registry import MemoryWeightsRegistry


def an_act(verb: str, by: str = "ann", at_ms: int = 7) -> Act:
    return Act(subject="weights", verb=verb, target="version 1", by=by, why="x", at_ms=at_ms)


@pytest.fixture
async def registry() -> MemoryWeightsRegistry:
    registry = MemoryWeightsRegistry(5)
    for version in (1, 2):
        await registry.publish(version, b"body %d" % version)
    return registry


async def test_a_pin_says_from_which_bytes_to_which(registry: MemoryWeightsRegistry) -> None:
    log = MemoryAuditLog()
    await model_acts.pin(registry, log, 1, an_act("pin"))
    assert await model_acts.unpin(registry, log, an_act("unpin", "bob")) == 2
    pin, unpin = fold(await log.read())
    assert (pin.act.before.what, pin.act.after.what) == ("version 2", "version 1")
    assert pin.act.after.sha256 == sha256_of(b"body 1")
    assert (unpin.act.before.what, unpin.act.after.what) == ("version 1", "version 2")
    assert [one.by for one in await registry.history()] == ["bob", "ann"]
    assert [one.state for one in (pin, unpin)] == ["done", "done"]


async def test_while_the_log_is_away_nothing_is_changed(registry: MemoryWeightsRegistry) -> None:
    log = MemoryAuditLog()
    log.away_after = 0
    freeze = Freeze(by="ann", why="x", at_ms=1, cause="operator")
    for acting in (
        model_acts.pin(registry, log, 1, an_act("pin")),
        model_acts.unpin(registry, log, an_act("unpin")),
        model_acts.freeze(registry, log, an_act("freeze"), freeze),
    ):
        with pytest.raises(AuditUnavailable):
            await acting
    assert (await registry.active_version(), await registry.frozen()) == (2, None)
    assert await registry.history() == []


async def test_a_freeze_and_its_end(registry: MemoryWeightsRegistry) -> None:
    log = MemoryAuditLog()
    assert not await model_acts.thaw(registry, log, an_act("thaw"))
    freeze = Freeze(by="ann", why="x", at_ms=1, cause="operator")
    assert await model_acts.freeze(registry, log, an_act("freeze"), freeze) == freeze
    assert await model_acts.thaw(registry, log, an_act("thaw"))
    told = [
        (one.act.verb, one.act.before.what, one.act.after.what) for one in fold(await log.read())
    ]
    assert told == [
        ("freeze", "publishing", "frozen by ann"),
        ("thaw", "frozen by ann", "publishing"),
    ]


async def test_an_act_that_failed_says_so(registry: MemoryWeightsRegistry) -> None:
    log = MemoryAuditLog()
    with pytest.raises(NoWeights):
        await model_acts.pin(registry, log, 9, an_act("pin"))
    (one,) = fold(await log.read())
    assert one.state == "failed"
    assert one.error.startswith("NoWeights: ")
    assert one.row()["error"] == one.error
    assert one.act.after.what == "version 9"


async def test_entries_that_a_retry_repeated_count_once() -> None:
    log = MemoryAuditLog()
    for state in ("meant", "meant", "done", "done", "failed"):
        await log.append(Entry(id="1", state=state, act=an_act("pin")))  # type: ignore[arg-type]
    assert [(one.state, one.offset) for one in fold(await log.read())] == [("done", 0)]


async def test_filters_and_a_changed_record() -> None:
    log = MemoryAuditLog()
    for number, (verb, by) in enumerate((("pin", "ann"), ("freeze", "bob"), ("pin", "bob"))):
        await log.append(Entry(id=str(number), state="done", act=an_act(verb, by)))
    kept = await log.read()
    acts = fold(kept)
    assert [one.id for one in wanted(acts, "pin", "", 0)] == ["0", "2"]
    assert [one.id for one in wanted(acts, "weights", "bob", 0)] == ["1", "2"]
    assert [one.id for one in wanted(acts, "version", "", kept[1].appended_at_ms)] == ["1", "2"]
    assert checked(kept).breaks == ()
    log.records[0] = log.records[0].replace(b"ann", b"eve")
    assert [one.offset for one in checked(await log.read()).breaks] == [1, 2]


def test_since_is_a_time_ago_or_an_instant() -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert _since("", now) == 0
    assert _since("36h", now) == int(now.timestamp() * 1000) - 36 * 3_600_000
    assert _since("2026-03-01T12:00:00Z", now) == int(now.timestamp() * 1000)
    assert _since("2026-03-01", now) == int(now.timestamp() * 1000) - 12 * 3_600_000
    with pytest.raises(typer.Exit):
        _since("yesterday", now)


def test_without_a_log_there_is_one_line_and_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RISKBEAT_REDIS_URL", "redis://127.0.0.1:1/0")
    app = typer.Typer(pretty_exceptions_enable=False)
    register(app)
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 2
    assert done.output.startswith("riskbeat: the audit log ")
