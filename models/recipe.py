"""options by name → how networks learn, each value checked."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

LIMITS: dict[str, tuple[float, float]] = {
    "networks": (1, 16),
    "hidden_0": (1, 1024),
    "hidden_1": (1, 1024),
    "embedding_size": (1, 64),
    "beta": (1e-3, 1.0),
    "learning_rate": (1e-6, 1.0),
    "embedding_rate": (1e-6, 1.0),
    "weight_decay": (0.0, 1.0),
    "averaging": (0, 10_000_000),
    "batch_rows": (1, 8192),
    "rehearsed_per_row": (0, 64),
    "rehearsed_min": (0, 8192),
    "fraud_share": (0.0, 0.9),
    "slope_max": (1e-3, 1e6),
}
OPTIMIZERS = ("adam", "adagrad")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to learn; the defaults were chosen on the Handbook's weeks before the test weeks (ADR).

    Attributes:
        networks: How many learn side by side and are averaged.
        hidden_0: Width of the first hidden layer.
        hidden_1: Width of the second.
        embedding_size: Numbers that stand for a category.
        beta: Share of legit rows that are learned from, in (0, 1].
        optimizer: `adam`, or `adagrad` per coordinate (the slow decay of its steps suits logs that
            hardly change). Tables of embeddings always learn by AdaGrad, since it leaves rows
            alone that were not looked at.
        learning_rate: Of the usual pace.
        embedding_rate: The same of the tables.
        weight_decay: Share of each parameter that is taken away per unit of learning rate.
        averaging: Steps over which published parameters are averaged, exponentially; 0: not.
        batch_rows: New rows of a step, at most.
        rehearsed_per_row: Rows learned again beside each new one.
        rehearsed_min: Rows learned again beside a step of few new rows, at least.
        fraud_share: Part of the rehearsed rows that is drawn from the frauds, in [0, 1).
        slope_max: Largest norm of a slope, per network; beyond it is scaled down.
    """

    networks: int = 1
    hidden_0: int = 64
    hidden_1: int = 32
    embedding_size: int = 8
    beta: float = 1.0
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    embedding_rate: float = 0.05
    weight_decay: float = 0.0
    averaging: int = 0
    batch_rows: int = 64
    rehearsed_per_row: int = 3
    rehearsed_min: int = 64
    fraud_share: float = 0.25
    slope_max: float = 5.0

    @staticmethod
    def of(options: Mapping[str, float | int | str]) -> "Recipe":
        """Return the recipe of these options; what is not named keeps its default.

        Raises:
            ValueError: A name is unknown, or a value is of another kind or outside its limits.
        """
        kinds: dict[str, Callable[[str, float | int | str], float | int | str]] = {
            field.name: {int: _whole, float: _number, str: _word}[type(field.default)]
            for field in fields(Recipe)
        }
        unknown = sorted(options.keys() - kinds.keys())
        if unknown:
            known = ", ".join(sorted(kinds))
            raise ValueError(f"network has no option {unknown[0]!r}; there are {known}")
        return Recipe(**{name: kinds[name](name, value) for name, value in options.items()})  # type: ignore[arg-type]


def _word(name: str, value: float | int | str) -> str:
    if value not in OPTIMIZERS:
        raise ValueError(f"option {name} is {value!r}; expected {' or '.join(OPTIMIZERS)}")
    return str(value)


def _number(name: str, value: float | int | str) -> float:
    low, high = LIMITS[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"option {name} is {value!r}; expected a number")
    if not low <= value <= high:
        raise ValueError(f"option {name} is {value}; expected {low:g} to {high:g}")
    return float(value)


def _whole(name: str, value: float | int | str) -> int:
    found = _number(name, value)
    if not found.is_integer():
        raise ValueError(f"option {name} is {value!r}; expected a whole number")
    return int(found)
