"""a plan's words → how networks learn, each value checked."""

from dataclasses import dataclass

from models.options import within

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

    networks: int = 3
    hidden_0: int = 96
    hidden_1: int = 64
    embedding_size: int = 8
    beta: float = 1.0
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    embedding_rate: float = 0.05
    weight_decay: float = 0.0
    averaging: int = 300
    batch_rows: int = 64
    rehearsed_per_row: int = 3
    rehearsed_min: int = 64
    fraud_share: float = 0.25
    slope_max: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {self.optimizer!r}"
            )
        within("networks", self.networks, 1, 16)
        within("hidden_0", self.hidden_0, 1, 1024)
        within("hidden_1", self.hidden_1, 1, 1024)
        within("embedding_size", self.embedding_size, 1, 64)
        within("beta", self.beta, 1e-3, 1.0)
        within("learning_rate", self.learning_rate, 1e-6, 1.0)
        within("embedding_rate", self.embedding_rate, 1e-6, 1.0)
        within("weight_decay", self.weight_decay, 0.0, 1.0)
        within("averaging", self.averaging, 0, 10_000_000)
        within("batch_rows", self.batch_rows, 1, 8192)
        within("rehearsed_per_row", self.rehearsed_per_row, 0, 64)
        within("rehearsed_min", self.rehearsed_min, 0, 8192)
        within("fraud_share", self.fraud_share, 0.0, 0.9)
        within("slope_max", self.slope_max, 1e-3, 1e6)
