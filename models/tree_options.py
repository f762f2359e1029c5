"""a plan's words → how River's trees grow."""

from dataclasses import dataclass

from models.options import within


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """How trees grow; names as in River where River has them.

    Attributes:
        trees: Of the forest; 1 for a single tree.
        max_features: Looked at in one leaf; 0 = the root of their number (forest) or all (tree).
        max_depth: Of a tree.
        max_leaves: Of a tree; then it splits no more. Bounds memory.
        grace_period: Weight a leaf sees between attempts to split.
        delta: Chance that a split is wrong (Hoeffding's bound).
        tau: Below this bound a tie is broken.
        max_share_to_split: A leaf with a larger share of one class is left whole. River's .99 would
            never split where one row in a hundred is a fraud.
        min_branch_fraction: Least share of a leaf's weight in each branch of a split.
        beta: Share of legit rows learned from; scoring corrects for it.
        refresh_rows: Learned rows after which the trees are exported.
        refresh_s: Event time after which they are exported, if anything was learned.
    """

    trees: int = 1
    max_features: int = 0
    max_depth: int = 12
    max_leaves: int = 256
    grace_period: int = 200
    delta: float = 1e-5
    tau: float = 0.05
    max_share_to_split: float = 0.9995
    min_branch_fraction: float = 0.002
    beta: float = 1.0
    refresh_rows: int = 10_000
    refresh_s: float = 3_600.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        within("trees", self.trees, 1, 100)
        within("max_features", self.max_features, 0, 10_000)
        within("max_depth", self.max_depth, 1, 32)
        within("max_leaves", self.max_leaves, 2, 4_096)
        within("grace_period", self.grace_period, 1, 1_000_000)
        within("delta", self.delta, 1e-12, 0.5)
        within("tau", self.tau, 0.0, 1.0)
        within("max_share_to_split", self.max_share_to_split, 0.5, 1.0)
        within("min_branch_fraction", self.min_branch_fraction, 1e-6, 0.5)
        within("beta", self.beta, 1e-4, 1.0)
        within("refresh_rows", self.refresh_rows, 1, 10_000_000)
        within("refresh_s", self.refresh_s, 1.0, 1e9)
