"""YAML text → nodes that know their place, so that an error names file, line and field."""

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import yaml

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DURATION = re.compile(r"([1-9][0-9]{0,5})(ms|s|m|h|d)")
_NUMBER = re.compile(r"[-+]?[0-9]{1,15}(\.[0-9]{1,9})?")
_NULL = "tag:yaml.org,2002:null"
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class SpecError(ValueError):
    """The operator's fault: the spec file cannot mean what it says. The text names the place."""


@dataclass(frozen=True, slots=True)
class Place:
    """One node of a YAML file, with the file and the path of field names that leads to it."""

    file: str
    field: str
    node: yaml.Node
    key: yaml.Node | None = None

    def error(self, expected: str) -> SpecError:
        """Return (not raise) an error that names this place and what was expected there."""
        line = (self.key or self.node).start_mark.line + 1
        return SpecError(f"{self.file}:{line}: {self.field or 'document'}: {expected}")

    @property
    def is_mapping(self) -> bool:
        """Whether names and values stand here."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether a list stands here."""
        return isinstance(self.node, yaml.SequenceNode)

    def mapping(
        self, *, required: Collection[str] = (), allowed: Collection[str] | None = None
    ) -> dict[str, "Place"]:
        """Return the children of a mapping by name, in file order.

        Raises:
            SpecError: Not a mapping, a name twice, a name missing or (with `allowed`) unknown.
        """
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error("expected a mapping of names to values")
        children: dict[str, Place] = {}
        for key, value in self.node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Place(self.file, self.field, key).error("expected a name before the colon")
            name = str(key.value)
            child = Place(self.file, f"{self.field}.{name}".lstrip("."), value, key)
            if name in children:
                raise child.error("this name stands here twice")
            if allowed is not None and name not in allowed:
                raise child.error(f"unknown name; {_one_of(name, allowed)}")
            children[name] = child
        for name in sorted(set(required) - children.keys()):
            raise self.error(f"expected the field {name!r}")
        return children

    def items(self) -> Iterator["Place"]:
        """Yield the items of a list.

        Raises:
            SpecError: Not a list.
        """
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error("expected a list, as in [10m, 1h]")
        for index, item in enumerate(self.node.value):
            yield Place(self.file, f"{self.field}[{index}]", item)

    def text(self) -> str:
        """Return a scalar as written.

        Raises:
            SpecError: A list or a mapping stands here, or nothing.
        """
        if not isinstance(self.node, yaml.ScalarNode) or self.node.value == "":
            raise self.error("expected a single value")
        if self.node.tag == _NULL:
            raise self.error(
                f'expected a value; to mean the word itself, write "{self.node.value}"'
            )
        return str(self.node.value)

    def choice(self, allowed: Collection[str]) -> str:
        """Return a scalar that is one of `allowed`.

        Raises:
            SpecError: It is not.
        """
        text = self.text()
        if text not in allowed:
            raise self.error(f"{_one_of(text, allowed)}; got {text!r}")
        return text

    def flag(self) -> bool:
        """Return true or false.

        Raises:
            SpecError: It is neither.
        """
        return self.choice(frozenset({"true", "false"})) == "true"

    def integer(self, low: int, high: int) -> int:
        """Return a whole number in [low, high].

        Raises:
            SpecError: It is no whole number, or outside.
        """
        text = self.text().replace("_", "")
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise self.error(f"expected a whole number in [{low}, {high}]; got {text!r}")
        return int(text)

    def positive(self) -> Decimal:
        """Return a positive decimal number, exactly as written.

        Raises:
            SpecError: It is no number, not finite, or not positive.
        """
        value = self._decimal()
        if value is None or value <= 0:
            raise self.error(
                f'expected a positive decimal number such as "0.92"; got {self.text()!r}'
            )
        return value

    def number(self) -> Decimal:
        """Return a decimal number, exactly as written.

        Raises:
            SpecError: It is no number, or not finite.
        """
        value = self._decimal()
        if value is None:
            raise self.error(f"expected a number such as 100 or 0.5; got {self.text()!r}")
        return value

    def _decimal(self) -> Decimal | None:
        text = self.text()
        if not _NUMBER.fullmatch(text):
            return None
        return Decimal(text)

    def duration_ms(self) -> int:
        """Return a duration such as `10m` in milliseconds.

        Raises:
            SpecError: It is not a whole number followed by ms, s, m, h or d.
        """
        text = self.text()
        try:
            return read_duration_ms(text)
        except ValueError as error:
            raise self.error(str(error)) from error


def read_duration_ms(text: str) -> int:
    """Return a duration such as `10m` in milliseconds.

    Raises:
        ValueError: It is not a whole number followed by ms, s, m, h or d.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a duration such as 10m, 24h or 30d; got {text!r}")
    return int(match.group(1)) * _UNIT_MS[match.group(2)]


def read_place(path: Path) -> Place:
    """Read a YAML file into its root node.

    Raises:
        SpecError: The file cannot be read, or is no YAML.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path.name}:1: document: cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{path.name}:{line}: document: no YAML: {error.problem}") from error
    if node is None:
        raise SpecError(f"{path.name}:1: document: expected a mapping; the file is empty")
    return Place(path.name, "", node)


def duration_text(duration_ms: int) -> str:
    """Return a duration in its largest whole unit: 86 400 000 → `24h`, 172 800 000 → `2d`."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if duration_ms % size == 0 and (unit != "d" or duration_ms > size):
            return f"{duration_ms // size}{unit}"
    return f"{duration_ms}ms"


def span_text(duration_ms: int) -> str:
    """Return any duration as a person reads it: 112 500 ms → `1m 52.5s`."""
    parts = []
    rest = duration_ms
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        whole, rest = divmod(rest, size)
        if whole:
            parts.append(f"{whole}{unit}")
    if rest and duration_ms < 1_000:
        parts.append(f"{rest}ms")
    elif rest:
        parts.append(f"{rest / 1_000:g}s")
    return " ".join(parts)


def _one_of(given: str, allowed: Collection[str]) -> str:
    """Return what would have been right, and which of it is nearest to what was written."""
    text = f"expected one of: {', '.join(sorted(allowed))}"
    near = difflib.get_close_matches(given, allowed, n=1)
    return f"{text} (did you mean {near[0]}?)" if near else text
