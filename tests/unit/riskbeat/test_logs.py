"""One line per fact, the event's name first, whoever says it."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from riskbeat.logs import AGAIN_AFTER_S, Seldom, configure_logs
from riskbeat.settings_load import load_settings


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    monkeypatch.setenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RISKBEAT_REDIS_URL", "redis://127.0.0.1:1")
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield io.StringIO()
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_logfmt_starts_with_the_event(lines: io.StringIO) -> None:
    configure_logs(load_settings(), "learn", lines)
    structlog.get_logger("learner").info("weights.published", version=7, labels=31, why="a b")
    pattern = (
        r"weights\.published version=7 labels=31 why=\"a b\" level=info logger=learner "
        r"process=learn at=\d{4}-\d\d-\d\dT[\d:.]+Z\n"
    )
    assert re.fullmatch(pattern, lines.getvalue())


def test_json_holds_what_was_said(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISKBEAT_LOG_FORMAT", "json")
    configure_logs(load_settings(), "serve", lines)
    structlog.get_logger("scorer").warning("weights.refused", version=8)
    line = json.loads(lines.getvalue())
    assert next(iter(line)) == "event"
    assert {k: line[k] for k in ("event", "version", "level", "process")} == {
        "event": "weights.refused",
        "version": 8,
        "level": "warning",
        "process": "serve",
    }


@pytest.mark.parametrize("name", ["uvicorn.error", "faust.worker", "aiokafka.cluster", "other"])
def test_a_library_speaks_in_the_same_form(lines: io.StringIO, name: str) -> None:
    configure_logs(load_settings(), "serve", lines)
    logging.getLogger(name).error("Started server process [%d]", 12)
    assert lines.getvalue().startswith(f'{name}.said text="Started server process [12]" level=')


def test_an_exception_stays_on_its_line(lines: io.StringIO) -> None:
    configure_logs(load_settings(), "serve", lines)
    try:
        raise ValueError("of no account")
    except ValueError:
        structlog.get_logger("x").exception("step.failed")
    assert lines.getvalue().count("\n") == 1
    assert "of no account" in lines.getvalue()


def test_quieter_lines_are_not_written(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISKBEAT_LOG_LEVEL", "WARNING")
    configure_logs(load_settings(), "serve", lines)
    structlog.get_logger("x").info("step.done")
    logging.getLogger("faust").info("quiet")
    assert lines.getvalue() == ""


def test_a_chatty_library_says_a_sentence_once_in_a_while(lines: io.StringIO) -> None:
    now_s = [0.0]
    handler = logging.StreamHandler(lines)
    handler.addFilter(Seldom(lambda: now_s[0]))
    chatty, ours = logging.getLogger("aiokafka.conn"), logging.getLogger("serve")
    for logger in (chatty, ours):
        logger.handlers = [handler]
        logger.propagate = False
    for second in range(3):
        now_s[0] = float(second)
        chatty.warning("no node %s", second)
        ours.warning("degraded %s", second)
    chatty.warning("another sentence")
    now_s[0] = AGAIN_AFTER_S
    chatty.warning("no node %s", "9")
    now_s[0] = 2 * AGAIN_AFTER_S
    chatty.warning("no node %s", "10")
    for logger in (chatty, ours):
        logger.handlers = []
        logger.propagate = True
    assert lines.getvalue().splitlines() == [
        "no node 0",
        *("degraded 0", "degraded 1", "degraded 2"),
        "another sentence",
        "no node 9 (and 2 more like it)",
        "no node 10",
    ]
