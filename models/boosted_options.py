"""a plan's words → how boosted trees are fitted, and when."""

from dataclasses import dataclass

from models.options import within

MODES = ("refit", "grow")


@dataclass(frozen=True, slots=True)
class BoostedOptions:
    """Settings of `boosted`. Names of the fit as in LightGBM.

    Attributes:
        mode: `refit`: all trees anew at each refresh. `grow`: the first time all, then some more on
            a recent sample at each refresh, and the oldest leave.
        refresh_s: Event time between refreshes, at whole multiples of it; the first comes with the
            first day that has `frauds_min`.
        adopt_after_s: Event time between the start of a fit and its adoption; below `refresh_s`. 0:
            the loop waits for each fit. The time is given, not measured, so that a replay agrees.
        wait_limit_s: Wall time for which a fit that is due may be waited for.
        window_s: Event time of rows fitted on.
        legit_share: Share of legit rows that are kept, by a hash; they weigh the more.
        keep_rows: Rows kept, frauds and kept legit ones.
        frauds_min: Fewer frauds than this are not fitted.
        trees: All of them.
        grow_trees: New ones of a refresh that grows.
        grow_share: Share of the window's rows that they see.
    """

    mode: str = "refit"
    refresh_s: float = 6 * 86_400.0
    adopt_after_s: float = 6 * 3_600.0
    wait_limit_s: float = 300.0
    window_s: float = 90 * 86_400.0
    legit_share: float = 0.1
    keep_rows: int = 131_072
    frauds_min: int = 20
    trees: int = 300
    grow_trees: int = 10
    grow_share: float = 0.3
    learning_rate: float = 0.05
    num_leaves: int = 31
    max_depth: int = 5
    max_bin: int = 255
    lambda_l2: float = 1.0
    min_sum_hessian_in_leaf: float = 1.0
    min_data_in_leaf: int = 1

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        within("refresh_s", self.refresh_s, 1.0, 366 * 86_400.0)
        within("adopt_after_s", self.adopt_after_s, 0.0, self.refresh_s * (1 - 1e-6))
        within("wait_limit_s", self.wait_limit_s, 0.001, 86_400.0)
        within("window_s", self.window_s, 1.0, 10 * 366 * 86_400.0)
        within("legit_share", self.legit_share, 1e-4, 1.0)
        within("keep_rows", self.keep_rows, 256, 10_000_000)
        within("frauds_min", self.frauds_min, 1, self.keep_rows)
        within("trees", self.trees, 1, 4_096)
        if self.mode == "grow":
            within("grow_trees", self.grow_trees, 1, self.trees)
            within("grow_share", self.grow_share, 1e-3, 1.0)
        within("learning_rate", self.learning_rate, 1e-4, 1.0)
        within("num_leaves", self.num_leaves, 2, 1_024)
        within("max_depth", self.max_depth, 1, 32)
        within("max_bin", self.max_bin, 2, 65_535)
        within("lambda_l2", self.lambda_l2, 0.0, 1e6)
        within("min_sum_hessian_in_leaf", self.min_sum_hessian_in_leaf, 0.0, 1e6)
        within("min_data_in_leaf", self.min_data_in_leaf, 1, 1_000_000)
