"""Compares `midwatch eval anomaly` with scikit-learn's IsolationForest on the same files in the same run.

usage: anomaly_vs_sklearn.py MIDWATCH DIR [SEEDS]

DIR holds *.csv files whose last column is `label`. One thread, the same trees and samples. Both figures are
means over SEEDS (default 10) with the standard deviation of one seed; `z` is how many standard errors we are
above scikit-learn; times are medians.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

binary, folder = sys.argv[1], Path(sys.argv[2])
seeds = int(sys.argv[3]) if len(sys.argv) > 3 else 10
ours = {}
for seed in range(seeds):
    command = [binary, "eval", "anomaly", "--data", str(folder), "--json", "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    for file in json.loads(done.stdout)["files"]:
        ours.setdefault(file["name"], []).append(file)

print(f"{'set':<20} {'ours':>14} {'sklearn':>14} {'z':>5} {'fit x':>7} {'score x':>8}")
means = []
for path in sorted(folder.glob("*.csv")):
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    rows, labels = np.ascontiguousarray(table[:, :-1]), table[:, -1]
    aurocs, fit_ms, score_ms = [], [], []
    for seed in range(seeds):
        started = time.perf_counter()
        forest = IsolationForest(n_estimators=100, n_jobs=1, random_state=seed).fit(rows)
        fitted = time.perf_counter()
        scores = forest.score_samples(rows)
        score_ms.append((time.perf_counter() - fitted) * 1000)
        fit_ms.append((fitted - started) * 1000)
        aurocs.append(roc_auc_score(labels, -scores))
    mine = ours[path.stem]
    found = [one["auroc"] for one in mine]
    of = lambda values: (statistics.mean(values), statistics.stdev(values) if seeds > 1 else 0.0)
    (here, noise), (theirs, spread) = of(found), of(aurocs)
    error = ((noise**2 + spread**2) / seeds) ** 0.5
    fit = statistics.median(fit_ms) / statistics.median(one["fit_ms"] for one in mine)
    score = statistics.median(score_ms) / statistics.median(one["score_ms"] for one in mine)
    means.append((here, theirs))
    z = (here - theirs) / error if error else 0.0
    print(f"{path.stem:<20} {here:>7.3f} ±{noise:.3f} {theirs:>7.3f} ±{spread:.3f} {z:>5.1f} {fit:>7.1f} {score:>8.1f}")
print(f"{'mean':<20} {statistics.mean(m for m, _ in means):>7.4f} {statistics.mean(t for _, t in means):>14.4f}")
