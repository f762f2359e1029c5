"""XGBoost in batches: refitted every week on every row whose label is known by then."""

import learning_slices as ours
import numpy as np
from xgboost import XGBClassifier

REFIT_DAYS = 7.0


def main():
    """Run to the end of the log, or of the time."""
    told = ours.arguments()
    held = np.load(told.rows)
    X, y, day = held["X"], held["y"], held["day"]
    state = {"model": None, "fitted": -REFIT_DAYS}

    def learn(rows):
        last = rows.stop
        if day[last - 1] - state["fitted"] < REFIT_DAYS or not y[:last].any():
            return
        state["fitted"] = day[last - 1]
        state["model"] = XGBClassifier(
            n_estimators=300, learning_rate=0.05, max_depth=5, base_score=0.5, n_jobs=1
        ).fit(X[:last], y[:last])

    def predict(rows):
        if state["model"] is None:
            return np.zeros(len(rows))
        return state["model"].predict_proba(X[rows.start : rows.stop])[:, 1]

    ours.run(told, day, predict, learn)


main()
