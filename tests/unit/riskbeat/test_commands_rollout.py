"""`riskbeat rollout`: what is typed becomes a plan, or one readable line; pages say how it goes."""

import pytest
from typer.testing import CliRunner

from models.rollout import RolloutAct, RolloutState, Selector, Step, Target
from models.rollout_rules import promoted, turned_back
from models.rollout_signals import Signals
from riskbeat.__main__ import app
from riskbeat.commands_rollout import attributes_of, steps_of
from riskbeat.rollout_pages import print_status
from riskbeat.settings import Settings
from riskbeat.settings_load import load_settings
from tests.builders_rollout import a_plan, a_rollout, counts


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("RISKBEAT_ROLLOUT_STEPS", "[0, 10, 100]")
    monkeypatch.setenv("RISKBEAT_ROLLOUT_BAKE_S", "60")
    monkeypatch.setenv("RISKBEAT_ROLLOUT_DECISIONS_MIN", "7")
    return load_settings(servers=False)


def test_steps_are_the_settings_or_what_is_typed(settings: Settings) -> None:
    assert steps_of(settings, "", None, None) == tuple(
        Step(share=share, bake_s=60.0, decisions_min=7) for share in (0.0, 0.1, 1.0)
    )
    assert steps_of(settings, "shadow, 0.5%,50", 0.0, 3) == tuple(
        Step(share=share, bake_s=0.0, decisions_min=3) for share in (0.0, 0.005, 0.5)
    )


@pytest.mark.parametrize("text", ["some", "1,,5", "-1", "101", "nan"])
def test_what_is_no_percentage_is_refused(settings: Settings, text: str) -> None:
    with pytest.raises(ValueError, match="is no percentage"):
        steps_of(settings, text, None, None)


def test_attributes_are_pairs() -> None:
    assert attributes_of(["channel=ecom", "note=a=b"]) == {"channel": "ecom", "note": "a=b"}
    for bad in ("channel", "=x"):
        with pytest.raises(ValueError, match=f"--attribute {bad}: expected NAME=VALUE"):
            attributes_of([bad])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Rival", "--why", "x"], "is no line's name"),
        (["rival", "--why", "x", "--steps", "5,1"], "must be larger"),
        (["rival", "--why", "x", "--steps", "abc"], "'abc' is no percentage"),
        (["rival", "--why", "x", "--entity", "planet"], "--entity planet: events have "),
        (["rival", "--why", "x", "--attribute", "a"], "expected NAME=VALUE"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS", "nowhere.invalid:0")
    monkeypatch.setenv("RISKBEAT_REDIS_URL", "redis://nowhere.invalid")
    done = CliRunner().invoke(app, ["rollout", "start", *arguments])
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.splitlines()) == 1


def page(capsys: pytest.CaptureFixture[str], state: RolloutState, signals: Signals | None) -> str:
    act = RolloutAct(
        act="start", number=1, candidate="rival", share=0.0, by="ann", why="a try", at_ms=0
    )
    print_status(state, signals, [act])
    return capsys.readouterr().out


def test_the_page_says_how_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing was ever rolled out" in page(capsys, RolloutState(), None)
    selector = Selector(entity="card", tenants=("acme",), attributes={"channel": "ecom"})
    rollout = a_rollout(plan=a_plan((0.0, 0.5), selector=selector), candidate=Target(at=17))
    seen = Signals(
        workers=2, ready=1, stable=counts(alerts=30), shadow=counts(score=30), beside=counts()
    )
    text = page(capsys, RolloutState(revision=1, rollout=rollout), seen)
    for part in (
        "line main answers",
        "rollout 1 of main@17 runs",
        "by card; tenants acme; channel = ecom",
        "it is promoted after the last step",
        "1 of 2 reporting scorers hold the candidate",
        "1,000 of 100",
        "BREACHED",
        "not yet",
    ):
        assert part in text
    held = a_rollout(plan=a_plan((1.0,), automatic=False))
    text = page(capsys, RolloutState(revision=1, rollout=held), Signals())
    assert "until a person promotes or aborts it" in text
    over = turned_back(rollout, "its scores lie elsewhere", 5)
    text = page(capsys, RolloutState(revision=2, rollout=over), Signals())
    assert "was rolled back" in text
    assert "its scores lie elsewhere" in text
    state = RolloutState(revision=2, line="rival", rollout=promoted(held, "good", 5))
    assert "passed" in page(capsys, state, Signals())
