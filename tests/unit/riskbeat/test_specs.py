"""Which spec is meant, and what keeps one from being retired."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from features.epochs import EpochInfo, EpochInUse, EpochState
from features.store import Pointer
from riskbeat.commands_store import register
from riskbeat.specs import UnknownSpec, named, refuse_in_use

OLD, NEW, LIKE_OLD = "aaaaaa11" + "0" * 56, "bbbbbb22" + "0" * 56, "aaaaaa33" + "0" * 56


def an_epoch(
    epoch: int, digest: str, state: EpochState = "alive", idle_s: float = 3600.0
) -> EpochInfo:
    pointer = Pointer(epoch, f"updates.v1.e{epoch}", 4, digest)
    return EpochInfo(pointer, state, 1_000_000, idle_s)


@pytest.mark.parametrize("name", [OLD, "aaaaaa11", "AAAAAA1"])
def test_a_spec_is_named_by_its_digest_or_its_beginning(name: str) -> None:
    assert named(name, [an_epoch(0, OLD), an_epoch(1, NEW), an_epoch(2, LIKE_OLD)]) == OLD


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("aaaaaa", "2 specs begin with aaaaaa; the store knows aaaaaa110000, aaaaaa330000"),
        ("cccccc", "no spec begins with cccccc"),
        ("bbb", "at least 6 characters"),
    ],
)
def test_an_unclear_name_is_refused(name: str, says: str) -> None:
    with pytest.raises(UnknownSpec, match=re.escape(says)):
        named(name, [an_epoch(0, OLD), an_epoch(2, LIKE_OLD)])


def test_what_nobody_uses_beside_another_spec_may_be_retired() -> None:
    mine = [an_epoch(0, OLD), an_epoch(1, OLD, "gone", idle_s=1.0)]
    refuse_in_use(mine, [*mine, an_epoch(2, NEW, idle_s=0.1)], [])


@pytest.mark.parametrize(
    ("mine", "others", "scorers", "says"),
    [
        (an_epoch(0, OLD, idle_s=4.2), [an_epoch(1, NEW)], [], "written 4 s ago"),
        (an_epoch(0, OLD, "filling", 4.2), [an_epoch(1, NEW)], [], "written 4 s ago"),
        (an_epoch(0, OLD), [an_epoch(1, NEW)], ["serve-1"], "serve-1 answers"),
        (an_epoch(0, OLD), [], [], "no other spec lives"),
        (an_epoch(0, OLD), [an_epoch(1, NEW, "filling")], [], "no other spec lives"),
    ],
)
def test_what_is_used_is_not_retired(
    mine: EpochInfo, others: list[EpochInfo], scorers: list[str], says: str
) -> None:
    with pytest.raises(EpochInUse, match=says):
        refuse_in_use([mine], [mine, *others], scorers)


@pytest.mark.parametrize("arguments", [["list"], ["retire", "aaaaaa11"]])
def test_an_absent_store_is_one_line_and_code_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RISKBEAT_REDIS_URL", "redis://127.0.0.1:1/0")
    app = typer.Typer(pretty_exceptions_enable=False)
    register(app)
    done = CliRunner().invoke(app, ["store", *arguments], catch_exceptions=False)
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "127.0.0.1:1" in done.stderr
