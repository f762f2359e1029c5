"""what processes say → one line per fact on standard error: JSON for log stores, logfmt for people.

One configuration serves our loggers (structlog), uvicorn, Faust and every library (logging). The
event's name comes first. A line from a library is the event `<logger>.said` with its `text`. What
must not be read there is taken out of every line at the end (`riskbeat/redact.py`).
"""

import json
import logging
import logging.config
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from riskbeat.redact import PROCESS, Redactor
from riskbeat.settings import Settings
from riskbeat.settings_files import SECRETS

VALUE_MAX_CHARS = 2_000
QUIET = {
    "aiokafka": logging.WARNING,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "opentelemetry": logging.CRITICAL,  # an absent collector is one line of ours: traces.away
}
CHATTY = ("aiokafka",)
AGAIN_AFTER_S = 10.0
"""A chatty library's sentence is written again after so long; until then it is only counted."""
SENTENCES_MAX = 256
ADOPTED = ("uvicorn", "uvicorn.error", "uvicorn.access", "faust", "mode", "aiokafka")


def configure_logs(settings: Settings, process: str, stream: TextIO = sys.stderr) -> None:
    """Send every logger of this process through one formatter.

    Args:
        settings: Chooses the format and the quietest level.
        process: Stands in every line as `process`.
        stream: Where lines go.
    """
    for secret in (getattr(settings, name) for name in SECRETS):
        if secret is not None:
            PROCESS.learn(secret.get_secret_value())
    level = logging.getLevelNamesMapping()[settings.log_level]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(settings.log_format, process))
    handler.addFilter(Seldom(time.monotonic))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ADOPTED:
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    for name, quietest in QUIET.items():
        logging.getLogger(name).setLevel(max(level, quietest))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class Seldom(logging.Filter):
    """Lets chatty libraries say a sentence once in a while, with how often it was left out.

    While a broker is away, its client says so twenty times a second.
    """

    def __init__(self, tick_s: Callable[[], float]) -> None:
        """Take a monotonic clock."""
        super().__init__()
        self._tick_s = tick_s
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written."""
        if record.name.split(".", 1)[0] not in CHATTY:
            return True
        sentence = (record.name, str(record.msg))  # the same whatever is put into it
        now_s = self._tick_s()
        said_s, left_out = self._said.get(sentence, (float("-inf"), 0))
        if now_s - said_s < AGAIN_AFTER_S:
            self._said[sentence] = (said_s, left_out + 1)
            return False
        if len(self._said) >= SENTENCES_MAX:
            self._said.clear()
        self._said[sentence] = (now_s, 0)
        if left_out:
            record.msg = f"{record.msg} (and {left_out} more like it)"
        return True


def formatter(
    log_format: str, process: str, redactor: Redactor = PROCESS
) -> structlog.stdlib.ProcessorFormatter:
    """Return the formatter of every line, ours and the libraries'."""

    def name_process(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        line["process"] = process
        return line

    def redact(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        return redactor.line(line)

    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[name_foreign],
        processors=[
            *shared,
            name_process,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            redact,
            to_json if log_format == "json" else to_logfmt,
        ],
    )


def name_foreign(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Turn a library's sentence into an event with a name."""
    record: logging.LogRecord = line["_record"]
    text = line["event"]
    line["event"] = f"{record.name}.said"
    line["text"] = text
    return line


def to_json(_: WrappedLogger, __: str, line: MutableMapping[str, Any]) -> str:
    """Render one line as JSON, the event's name first."""
    return json.dumps(_ordered(line), default=str, ensure_ascii=False)


def to_logfmt(_: WrappedLogger, __: str, line: MutableMapping[str, Any]) -> str:
    """Render one line as `event key=value …`, quoted where a value would be torn apart."""
    ordered = _ordered(line)
    event = _logfmt_value(ordered.pop("event"))
    if "exception" in ordered:  # its end says what failed
        ordered["exception"] = _end_of(str(ordered["exception"]))
    return " ".join([event, *(f"{key}={_logfmt_value(value)}" for key, value in ordered.items())])


def _ordered(line: Mapping[str, Any]) -> dict[str, Any]:
    """Put the name first, what it says next, and where and when it was said last."""
    last = ("level", "logger", "process", "at", "exception")
    said = {key: value for key, value in line.items() if key != "event" and key not in last}
    return {"event": line["event"]} | said | {key: line[key] for key in last if key in line}


def _end_of(text: str) -> str:
    return text if len(text) <= VALUE_MAX_CHARS else f"…{text[1 - VALUE_MAX_CHARS :]}"


def _logfmt_value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if len(text) > VALUE_MAX_CHARS:
        text = f"{text[:VALUE_MAX_CHARS]}…"
    plain = text and not any(char in '"=' or char.isspace() for char in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
