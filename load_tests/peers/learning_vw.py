"""Vowpal Wabbit: rows to predict and rows to learn, in the order of the clock, in one text file."""

import resource
import subprocess
import sys

import learning_slices as ours
import numpy as np


def main():
    """Write the file, let it run, and read the predictions of the unlabelled lines back."""
    told = ours.arguments()
    held = np.load(told.rows)
    X, y, day = held["X"], held["y"], held["day"]
    z = np.sign(X) * np.log1p(np.abs(X))
    places = []
    text = told.out.with_suffix(".vw")
    with text.open("w") as out:
        for now, known in ours.turns(day, told):
            for i in known:
                places.append(-1)
                out.write(line(z[i], "1 " if y[i] else "-1 "))
            for i in now:
                places.append(i)
                out.write(line(z[i], ""))
    predicted = told.out.with_suffix(".p")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "vowpalwabbit", "--quiet", "--loss_function", "logistic",
         "--link", "logistic", "-d", str(text), "-p", str(predicted)],
        check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    places = np.array(places)
    values = np.loadtxt(predicted)
    p = np.full(len(y), np.nan)
    p[places[places >= 0]] = values[places >= 0]
    spent = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    ours.finish(told, p, spent)


def line(z, label):
    """Return a row in the text format; missing values are left out."""
    values = " ".join(f"{c}:{v:.6g}" for c, v in enumerate(np.nan_to_num(z).tolist()) if v)
    return f"{label}| {values}\n"


main()
