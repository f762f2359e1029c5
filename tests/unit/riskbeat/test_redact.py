"""No secret and no payload reaches a line, whoever says it and however it is written."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from features.event import Event, entity_key
from riskbeat.logs import formatter
from riskbeat.redact import HIDDEN, PROCESS, SECRET_MIN_CHARS, Redactor
from riskbeat.settings_again import secret_again

SECRETS = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=SECRET_MIN_CHARS
)
URL_WORDS = st.text("abcXYZ0189!$*-_.~%:@/", min_size=1)
FORMATS = st.sampled_from(["json", "logfmt"])


def by_field(log: structlog.stdlib.BoundLogger, secret: str) -> None:
    log.warning("store.unavailable", detail=f"said {secret}")


def by_exception(log: structlog.stdlib.BoundLogger, secret: str) -> None:
    try:
        raise ValueError(f"cannot reach {secret}, {secret!r} nor {quote(secret, safe='')}")
    except ValueError as error:
        log.exception("step.failed", error=repr(error), what=error)


def by_library(_: structlog.stdlib.BoundLogger, secret: str) -> None:
    logging.getLogger("aiokafka").error("login %r as %s failed", secret.encode(), {"p": secret})


def by_list(log: structlog.stdlib.BoundLogger, secret: str) -> None:
    log.info("serve.stopped", failed=[secret, SecretStr(secret), {"password": secret}])


SPEAKERS = st.sampled_from([by_field, by_exception, by_library, by_list])


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def said(log_format: str, redactor: Redactor, say: Callable[..., None], secret: str) -> str:
    """Return what is written when somebody says a secret."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter(log_format, "serve", redactor))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG)
    structlog.configure(
        processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    say(structlog.get_logger("serve"), secret)
    return out.getvalue()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(secret=SECRETS, say=SPEAKERS, log_format=FORMATS)
def test_a_known_secret_never_reaches_a_line(
    secret: str, say: Callable[..., None], log_format: str
) -> None:
    assume(secret not in said(log_format, Redactor(), say, "~"))
    line = said(log_format, Redactor([secret]), say, secret)
    assert line.count("\n") == 1
    assert secret not in line
    if log_format == "json":
        assert secret not in " ".join(map(str, json.loads(line).values()))


@given(user=st.text("abc", max_size=3), password=URL_WORDS)
def test_a_password_in_any_address_is_hidden(user: str, password: str) -> None:
    text = f"Error connecting to redis://{user}:{password}@store:6379/0 now"
    shown = Redactor().text(text)
    assert shown == f"Error connecting to redis://{HIDDEN}@store:6379/0 now"


@given(password=st.text("abcXYZ019-_.", min_size=SECRET_MIN_CHARS))
def test_the_password_in_a_known_address_is_known_by_itself(password: str) -> None:
    redactor = Redactor([f"rediss://worker:{password}@store:6379/0"])
    assert password not in redactor.text(f"AUTH worker {password} was refused")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def", f"Authorization: {HIDDEN}"),
        ("{'x-api-key': 'abc'}", f"{{'x-api-key': '{HIDDEN}'}}"),
        ("sasl_plain_password=abc, next", f"sasl_plain_password={HIDDEN}, next"),
        ("sent Basic dTpw to it", f"sent Basic {HIDDEN} to it"),
        ("key rb_0123456789ab_" + "A" * 43, f"key {HIDDEN}"),
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----", HIDDEN),
        ("KeyError: b'default\\x1fcard\\x1ftok_9'", f"KeyError: {HIDDEN}"),
        ("RISKBEAT_KEYS_SECRET: not set", "RISKBEAT_KEYS_SECRET: not set"),
        ("mail a@b.example, http://host:80/path", "mail a@b.example, http://host:80/path"),
    ],
)
def test_what_a_text_names_as_a_credential_is_hidden(text: str, shown: str) -> None:
    assert Redactor().text(text) == shown


def test_payloads_and_entities_are_named_by_their_type() -> None:
    event = Event(
        event_type="card_payment",
        event_id="pay_1",
        event_time=datetime(2026, 3, 1, tzinfo=UTC),
        entities={"card": "tok_9"},
        amount=None,
    )
    line = Redactor().line(
        {
            "event": "rule.failed",
            "what": event,
            "key": entity_key("default", "card", "tok_9"),
            "fields": {"card": "tok_9"},
            "failed": ["stream", b"tok_9"],
            "secret": "short",
            "records": 3,
            "path": Path("/data"),
            "degraded": False,
            "behind": None,
        }
    )
    assert "tok_9" not in str(line)
    assert line == {
        "event": "rule.failed",
        "what": "[Event]",
        "key": "[bytes]",
        "fields": "[dict]",
        "failed": ["stream", "[bytes]"],
        "secret": HIDDEN,
        "records": 3,
        "path": "/data",
        "degraded": False,
        "behind": None,
    }


def test_a_secret_that_was_renewed_is_known_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("first-of-all")
    monkeypatch.setenv("RISKBEAT_KAFKA_PASSWORD_FILE", str(file))
    again = secret_again("RISKBEAT_", "kafka_password", "first-of-all")
    file.write_text("renewed-later")
    assert again() == "renewed-later"
    assert PROCESS.text("login renewed-later refused") == f"login {HIDDEN} refused"
