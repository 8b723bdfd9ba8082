#!/usr/bin/env python3
"""Compare the template miner with drain3 (PyPI, default configuration) on the same files, one run.

usage: logs_vs_drain3.py MIDWATCH DIR [DIR ...]
Set up: python3 -m venv VENV && VENV/bin/pip install drain3

Both: one thread, a new miner per file, reading the file not timed, the fastest of the passes that
fit in half a second. For drain3, whose passes are longer and so are interrupted more often, it is
twenty passes at least, and its time is that of its thread, without interruptions.
Drain3's groups are its cluster ids, its templates the clusters' at the end of the file, with its
default wildcard `<*>`; snapshots and profiling are off, as they are by default.
"""
import csv, glob, json, logging, os, re, statistics, subprocess, sys, time
from collections import Counter

from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig

PASSES, TIMED = 20, 0.5


def drain3(lines):
    seconds = []
    begin = time.perf_counter()
    while len(seconds) < PASSES or time.perf_counter() - begin < TIMED:
        miner = TemplateMiner(config=TemplateMinerConfig())
        start = time.thread_time()
        ids = [miner.add_log_message(line)["cluster_id"] for line in lines]
        seconds.append(time.thread_time() - start)
    texts = {cluster.cluster_id: cluster.get_template() for cluster in miner.drain.clusters}
    return ids, [texts[id] for id in ids], len(lines) / min(seconds)


def grouping(truth, found):
    of_truth, of_found, both = Counter(truth), Counter(found), Counter(zip(truth, found))
    right = [n for (label, group), n in both.items() if of_truth[label] == n == of_found[group]]
    return sum(right) / len(truth), 2 * len(right) / (len(of_truth) + len(of_found))


def normalised(template):
    first, *parts = " ".join(template.split()).split("<*>")
    for part in parts:
        first = first if first.endswith("<*>") else first + "<*>"
        first += part if part.strip(" ,.:/-_+|@#") else ""
    return first


def main():
    logging.disable(logging.CRITICAL)
    binary, folders = sys.argv[1], sys.argv[2:]
    rows = []
    for folder in folders:
        ours = {file["name"]: file for file in json.loads(subprocess.check_output([binary, "eval", "logs", "--data", folder, "--json"]))["files"]}
        for path in sorted(glob.glob(os.path.join(folder, "*_structured.csv"))):
            name = re.sub(r"_structured\.csv$", "", os.path.basename(path))
            labelled = list(csv.DictReader(open(path, encoding="utf-8-sig", errors="replace", newline="")))
            found, texts, speed = drain3([row["Content"] for row in labelled])
            ga, fga = grouping([row["EventId"] for row in labelled], found)
            pa = sum(normalised(text) == normalised(row["EventTemplate"]) for text, row in zip(texts, labelled)) / len(labelled)
            us = ours[name]
            rows.append((name, us["ga"], ga, us["fga"], fga, us["pa"], pa, us["lines_per_s"], speed))
    print(f"{'file':24} {'ga':>6} {'drain3':>6}  {'fga':>6} {'drain3':>6}  {'pa':>6} {'drain3':>6}  {'lines/s':>9} {'drain3':>8} {'ratio':>6}")
    rows.append(("mean", *(statistics.mean(row[at] for row in rows) for at in range(1, 9))))
    for name, *v in rows:
        print(f"{name:24} {v[0]:6.3f} {v[1]:6.3f}  {v[2]:6.3f} {v[3]:6.3f}  {v[4]:6.3f} {v[5]:6.3f}  {v[6]:9.0f} {v[7]:8.0f} {v[6] / v[7]:6.1f}")


main()
