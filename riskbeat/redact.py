"""values and texts of log lines → the same without what must not be read there.

Two rules. By type: only words and numbers are written; of an event, a label, bytes (keys of
entities are bytes) or anything else that is made of parts the line names the type, and no part.
By text, for what libraries and exceptions say: secrets of this process, passwords in URLs, values
that are named as credentials, tokens of API keys, private keys and literals of bytes.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import date
from enum import Enum
from numbers import Number
from pathlib import PurePath
from typing import Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

from pydantic import SecretBytes, SecretStr

HIDDEN: Final = "[hidden]"
SECRET_MIN_CHARS: Final = 6
"""Shorter ones are hidden where a text names them; everywhere they would eat common words."""

_PATTERNS: Final = (
    re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"),
    re.compile(r"(?<=://)[^\s:/@]*:\S*(?=@)"),
    re.compile(r"\brb_[0-9a-f]{12}_[A-Za-z0-9_-]{43}"),
    re.compile(r"(?i)(?<=\bbearer )\S+|(?<=\bbasic )\S+"),
    re.compile(r"""\bb'(?:[^'\\]|\\.)*'|\bb"(?:[^"\\]|\\.)*\""""),
)
_NAMED: Final = re.compile(
    r"(?i)\b((?:proxy-)?authorization|x-api-key|api[-_]?key|(?:sasl_plain_)?password|passwd|secret)"
    r"(['\"]?\s*[:=]\s*['\"]?)(?:(basic|bearer)\s+)?[^\s'\",;&)]+"
)


class Redactor:
    """Knows the secrets of one process."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Know these."""
        self._forms: set[str] = set()
        self._known: re.Pattern[str] | None = None
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: str) -> None:
        """Know one more, and the password in it if it is a URL."""
        news = {form for one in _parts_of(secret) for form in _forms_of(one)} - self._forms
        if news:
            self._forms |= news
            longest_first = sorted(self._forms, key=len, reverse=True)
            self._known = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for pattern in _PATTERNS:
            text = pattern.sub(HIDDEN, text)
        return _NAMED.sub(rf"\1\2{HIDDEN}", text)

    def value(self, value: object) -> object:
        """Return what a line may hold in a value's place."""
        if isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, Number):
            return value
        if isinstance(value, SecretStr | SecretBytes):
            return HIDDEN
        if isinstance(value, str | BaseException | date | PurePath):
            return self.text(str(value))
        if isinstance(value, list | set | frozenset) or type(value) is tuple:
            return [self.value(item) for item in value]
        return f"[{type(value).__name__}]"

    def line(self, line: Mapping[str, object]) -> dict[str, object]:
        """Return a line's fields; one with a credential's name is hidden whatever it is."""
        return {
            name: HIDDEN if _NAMED.match(f"{name}=x") else self.value(value)
            for name, value in line.items()
        }


PROCESS: Final = Redactor()
"""What this process knows: its settings, and secrets that were renewed since."""


def _parts_of(secret: str) -> set[str]:
    """Return a secret and, if it is a URL, its password as written and as meant."""
    parts = {secret}
    if "://" in secret:
        try:
            password = urlsplit(secret).password
        except ValueError:
            password = None
        if password:
            parts |= {password, unquote(password)}
    return parts


def _forms_of(secret: str) -> set[str]:
    """Return the ways in which a text may hold a secret; none of one that is too short."""
    if len(secret) < SECRET_MIN_CHARS:
        return set()
    forms = {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        repr(secret.encode())[2:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }
    return forms | {repr(form)[1:-1] for form in forms}
