"""River, as its documentation shows it: a dictionary a row, predicted and learned one by one."""

import math

import learning_slices as ours
import numpy as np
from river import compose, forest, linear_model, preprocessing


def main():
    """Run to the end of the log, or of the time."""
    told = ours.arguments(model=["logistic", "forest"])
    held = np.load(told.rows)
    X, y, day = held["X"], held["y"], held["day"]
    columns = range(X.shape[1])
    if told.model == "logistic":
        model = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    else:
        model = forest.ARFClassifier(n_models=10, seed=1)

    def row(index):
        values = X[index].tolist()
        return {c: v for c, v in zip(columns, values, strict=True) if not math.isnan(v)}

    def predict(rows):
        return [model.predict_proba_one(row(i)).get(1, 0.0) for i in rows]

    def learn(rows):
        for i in rows:
            model.learn_one(row(i), int(y[i]))

    ours.run(told, day, predict, learn)


main()
