"""values of a feature in a leaf → where to split: River's Gaussian observer without its luggage."""

from typing import Any

from river.tree.splitter import GaussianSplitter


class LeanSplitter(GaussianSplitter):
    """River's `GaussianSplitter`; its Gaussians carry no generator of random numbers.

    River gives each Gaussian its own generator, seeded by the operating system and used for
    sampling only: 2.5 KB for each class of each feature of each leaf, against 0.3 KB for the rest.
    """

    def update(self, att_val: Any, target_val: Any, w: Any) -> None:
        """Observe a value of a row of class `target_val`."""
        new = target_val not in self._att_dist_per_class
        super().update(att_val, target_val, w)  # type: ignore[no-untyped-call]
        if new:
            gaussian: Any = self._att_dist_per_class[target_val]
            gaussian._rng = None
