"""settings of a learner, by name → one checked value; what is refused is told what is there."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TypeVar

_T = TypeVar("_T")


def read_options(learner: str, kind: type[_T], given: Mapping[str, float | int | str]) -> _T:
    """Make a dataclass of options from what a plan names; the rest keeps its default.

    Args:
        learner: For messages.
        kind: A dataclass of int, float and str fields with defaults; it checks its ranges itself.
        given: Name → value.

    Raises:
        ValueError: An unknown name, another type, or a value out of range; names the option.
    """
    known = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, object] = {}
    for name, value in given.items():
        if name not in known:
            there = ", ".join(f"{option}={default!r}" for option, default in sorted(known.items()))
            raise ValueError(f"{learner}: there is no option {name!r}; there are {there}")
        wanted = type(known[name])
        taken = float(value) if wanted is float and type(value) is int else value
        if type(taken) is not wanted:
            raise ValueError(f"{learner}: {name} must be {wanted.__name__}, not {value!r}")
        values[name] = taken
    try:
        return kind(**values)
    except ValueError as fault:
        raise ValueError(f"{learner}: {fault}") from fault


def within(name: str, value: float, least: float, most: float) -> None:
    """Raise ValueError unless least ≤ value ≤ most."""
    if not least <= value <= most:
        raise ValueError(f"{name} must lie within {least:g} and {most:g}, not {value:g}")
