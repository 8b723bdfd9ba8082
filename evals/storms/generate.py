#!/usr/bin/env python3
"""Generates alert storms with known truth, in the format of `midwatch eval triage`.

usage: generate.py OUT_DIR --seeds A..B [--world NAME]

One folder OUT_DIR/WORLD-SEED a seed: `alerts.jsonl`, `topology.json` (where the world has one) and `meta.json`. The same
seed gives the same bytes. Without --world the seeds go round the worlds kube, vm, cloud, mesh, fabric, queues and
deploys; `zabbix` and `pipelines` come only by name, so that they can be kept for a last, unseen measurement.

Each alert line has `truth` (the incident that first caused it, null for noise) and `severity_truth` (SEV1 to SEV4 from
what users felt, null for noise). This generator was written without sight of the correlator it measures.
"""

import argparse
import json
import os
import sys

import storm
from worlds_data import Cloud, Pipelines, Queues, Zabbix
from worlds_hosts import Fabric, Vm
from worlds_kube import Deploys, Kube, Mesh

ROUND = [Kube, Vm, Cloud, Mesh, Fabric, Queues, Deploys]
WORLDS = {w.name: w for w in ROUND + [Zabbix, Pipelines]}


def write(folder, made):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "alerts.jsonl"), "w", encoding="utf-8") as out:
        for line in made["lines"]:
            out.write(json.dumps(line, separators=(",", ":")) + "\n")
    topology = os.path.join(folder, "topology.json")
    if made["topology"] is not None:
        with open(topology, "w", encoding="utf-8") as out:
            json.dump(made["topology"], out, indent=1)
    elif os.path.exists(topology):
        os.remove(topology)
    with open(os.path.join(folder, "meta.json"), "w", encoding="utf-8") as out:
        json.dump(made["meta"], out, indent=1)


def seed_range(text):
    first, last = text.split("..")
    return range(int(first), int(last) + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", metavar="OUT_DIR")
    parser.add_argument("--seeds", required=True, type=seed_range, metavar="A..B", help="first and last seed")
    parser.add_argument("--world", choices=sorted(WORLDS), metavar="NAME", help=", ".join(sorted(WORLDS)))
    args = parser.parse_args()
    for seed in args.seeds:
        world = WORLDS[args.world] if args.world else ROUND[seed % len(ROUND)]
        made = storm.make(world, seed)
        write(os.path.join(args.out_dir, f"{world.name}-{seed}"), made)
        meta = made["meta"]
        print(f"{world.name}-{seed}: {meta['alerts']} alerts, {len(meta['faults'])} incidents, "
              f"{meta['services']} services{', hard: ' + meta['hard_trait'] if meta['hard'] else ''}", file=sys.stderr)


if __name__ == "__main__":
    main()
