"""Compares the lab's Isolation Forest with scikit-learn's on the same files in the same run, one thread each.

usage: anomaly_vs_sklearn.py BINARY DIR [SEEDS] [REPEATS] [--synthetic ROWSxCOLUMNS ...]

DIR holds *.csv files whose last column is `label`. --synthetic adds made-up files of the given shapes, because the
time scikit-learn needs on a small file is mostly its overhead a call. Times are medians over seeds and repeats.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score


def ours(binary, path, seeds, repeats):
    done = subprocess.run([binary, "forest", str(path), str(seeds), str(repeats)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{path}: {done.stderr}")
    return json.loads(done.stdout)


def theirs(path, seeds, repeats):
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    rows, labels = np.ascontiguousarray(table[:, :-1]), table[:, -1]
    aurocs, fit_ms, score_ms = [], [], []
    for seed in range(seeds):
        for _ in range(repeats):
            started = time.perf_counter()
            forest = IsolationForest(n_estimators=100, n_jobs=1, random_state=seed).fit(rows)
            fit_ms.append((time.perf_counter() - started) * 1e3)
            started = time.perf_counter()
            scores = forest.score_samples(rows)
            score_ms.append((time.perf_counter() - started) * 1e3)
        aurocs.append(roc_auc_score(labels, -scores))
    return len(rows), {
        "auroc": aurocs,
        "fit_ms": statistics.median(fit_ms),
        "score_ms": statistics.median(score_ms),
    }


def synthetic(folder, shape):
    rows, columns = (int(part) for part in shape.split("x"))
    random = np.random.default_rng(7)
    values = random.normal(size=(rows, columns))
    odd = random.random(rows) < 0.02
    values[odd] += random.normal(scale=3, size=(int(odd.sum()), columns))
    path = Path(folder) / f"synthetic_{shape}.csv"
    header = ",".join([f"f{i}" for i in range(columns)] + ["label"])
    np.savetxt(path, np.column_stack([values, odd]), delimiter=",", header=header, comments="", fmt="%.9g")
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("data", type=Path)
    parser.add_argument("seeds", type=int, nargs="?", default=10)
    parser.add_argument("repeats", type=int, nargs="?", default=3)
    parser.add_argument("--synthetic", nargs="*", default=[])
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        files = sorted(args.data.glob("*.csv"))
        made = [synthetic(folder, shape) for shape in args.synthetic]
        print(
            f"{'file':24} {'rows':>7} {'ours auroc':>14} {'sklearn auroc':>14} {'diff':>7}"
            f" {'fit ms':>8} {'sk fit':>8} {'ratio':>6} {'score ms':>9} {'sk score':>9} {'ratio':>6} {'1 by 1':>8}"
        )
        means = []
        for path in files + made:
            a = ours(args.binary, path, args.seeds, args.repeats)
            rows, b = theirs(path, args.seeds, args.repeats)
            am, bm = statistics.mean(a["auroc"]), statistics.mean(b["auroc"])
            spread = [statistics.stdev(x["auroc"]) if args.seeds > 1 else 0.0 for x in (a, b)]
            if path in files:
                means.append((am, bm, b["fit_ms"] / a["fit_ms"], b["score_ms"] / a["score_ms"]))
            print(
                f"{path.stem:24} {rows:7} {am:.4f}±{spread[0]:.4f}  {bm:.4f}±{spread[1]:.4f} {am - bm:+.4f}"
                f" {a['fit_ms']:8.2f} {b['fit_ms']:8.1f} {b['fit_ms'] / a['fit_ms']:6.1f}"
                f" {a['score_ms']:9.3f} {b['score_ms']:9.2f} {b['score_ms'] / a['score_ms']:6.1f} {a['single_ms']:8.3f}"
            )
        columns = list(zip(*means))
        print(
            f"mean of {len(means)} files: auroc ours {statistics.mean(columns[0]):.4f},"
            f" scikit-learn {statistics.mean(columns[1]):.4f}; lowest ratio fit {min(columns[2]):.1f},"
            f" score {min(columns[3]):.1f}"
        )


if __name__ == "__main__":
    main()
