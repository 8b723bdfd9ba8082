"""One set: builds the estate, picks faults, plays them, and turns signals into alert lines.

A set is drawn again (deterministically) until it is fair: every incident leaves at least three firing lines from two
different alerts, one of them critical or a warning that lasts; 100 to 5,000 lines in all; and, unless the set is marked
hard, no service is touched by two incidents, so that an expert could tell them apart.
"""

import datetime
import json
import math
import random

from base import Where
from estate import build
from physics import SEATS, Fault, Signal, play

HARD = ["shared_caller", "same_namespace", "one_alertname", "global_noise", "one_chain"]
PAIRS = {"shared_caller", "same_namespace", "one_chain"}  # traits of two faults that start together
LASTS = 600  # seconds after which a warning counts as persistent
MIN_LINES, MAX_LINES = 100, 5000


def make(world_class, seed):
    for attempt in range(400):
        rng = random.Random(f"{world_class.name}/{seed}/{attempt}")
        made = _attempt(world_class, seed, rng, attempt)
        if made is not None:
            made["meta"]["attempt"] = attempt
            return made
    raise SystemExit(f"{world_class.name} seed {seed}: no fair set found")


def _attempt(world_class, seed, rng, attempt):
    plan = random.Random(f"plan/{world_class.name}/{seed}")  # fixed over the attempts, so that hard sets stay hard
    trait = HARD[seed // 3 % len(HARD)] if seed % 3 == 0 else None
    wish = plan.choice([2, 2, 3, 3, 4, 4, 5, 6])
    size = round(math.exp(plan.uniform(math.log(15), math.log(300))))
    if attempt > 12:  # too small or too crowded for incidents that can be told apart
        size, wish = min(300, size + 2 * (attempt - 12)), max(2, wish - (attempt - 12) // 6)
    if attempt > 15 and trait in PAIRS:
        trait = None  # this estate has no such pair
    if trait == "one_chain":
        wish = min(wish, 3)
    kinds = list(world_class.fault_weights)
    first = (plan.choices(kinds, [world_class.fault_weights[k] for k in kinds])[0], plan.random() < 0.45)
    if trait in PAIRS or attempt > 12:
        first = (None, False)  # what the plan wants does not fit this estate
    busy = plan.choice([0.35, 0.6, 1.0, 1.0, 1.0])
    has_topology = plan.random() < world_class.topology_share
    world = world_class(rng)
    estate = build(rng, size, world.style())
    faults = _pick(world, estate, rng, wish, trait, first)
    if faults is None:
        return None
    span = max(f.end for f in faults if f.end < 1e8) + rng.uniform(600, 2400)
    emitter = Emitter(world, estate, rng, seed, span, trait, busy)
    lines = emitter.run(faults)
    if not (MIN_LINES <= len(lines) <= MAX_LINES) or not _fair(world, lines, faults):
        return None
    return {"lines": [line for _, line in lines], "topology": _topology(world, estate, rng) if has_topology else None,
            "meta": _meta(world, seed, estate, faults, trait, has_topology, lines)}


# ---- faults -------------------------------------------------------------------------------------------------------

def _pick(world, estate, rng, wish, trait, planned):
    first = rng.uniform(2400, 4200)
    faults, used = [], set()
    close = trait in PAIRS
    for tries in range(120):
        if len(faults) == wish:
            break
        pair = close and len(faults) == 1
        if tries > 60:
            if len(faults) >= 2 or not faults:
                break
        start = first + (0 if not faults else rng.uniform(0, 60 if pair and trait == "same_namespace" else
                                                          180 if pair else 1800))
        fault = _draw(world, estate, rng, f"inc-{len(faults) + 1}", start,
                      planned if not faults else (None, False))
        if fault is None or any(f.root is fault.root for f in faults):
            continue
        if pair and not _related(trait, faults[0], fault, estate):
            continue
        play(fault, estate, rng, world.all_serve)
        touched = fault.touched()
        overlap = touched & used
        if overlap and not pair:
            continue
        if pair and trait == "shared_caller" and not overlap:
            continue
        if not touched:
            continue
        faults.append(fault)
        used |= touched
    if len(faults) < 2:
        return None
    faults.sort(key=lambda f: f.start)
    for number, fault in enumerate(faults):
        fault.id = f"inc-{number + 1}"
    return faults


def _draw(world, estate, rng, name, start, planned):
    wanted, core = planned
    kinds = list(world.fault_weights)
    kind = wanted or rng.choices(kinds, [world.fault_weights[k] for k in kinds])[0]
    seats = SEATS[kind]
    if seats == ("rack",):
        roots = sorted({n.rack for n in estate.nodes if estate.on_node(n)})
    elif seats == ("node",):
        roots = [n for n in estate.nodes if any(s.env == "production" for s, _ in estate.on_node(n))]
    else:
        roots = [s for s in estate.of(*seats) if s.env == "production" or rng.random() < 0.6]
        if kind == "crash" or kind == "cpu":
            roots = [s for s in roots if s.instances]
        if core:  # where a core journey depends on it
            journeys = {s.domain for s in estate.services if s.core}
            roots = [s for s in roots if s.domain in journeys and s.env == "production"] or roots
    if not roots:
        return None
    root = rng.choice(roots)
    length = min(5400.0, max(360.0, rng.lognormvariate(math.log(1500), 0.6)))
    return Fault(name, kind, start, start + length, root, getattr(root, "env", "production"))


def _related(trait, one, two, estate):
    a, b = one.root, two.root
    if not hasattr(a, "namespace") or not hasattr(b, "namespace"):
        return False
    up_a, up_b = estate.callers_closure(a), estate.callers_closure(b)
    on_chain = a in up_b or b in up_a
    if trait == "one_chain":
        return on_chain
    if trait == "shared_caller":
        return bool(up_a & up_b) and not on_chain
    same = a.namespace == b.namespace or a.domain == b.domain
    return same and a.env == b.env and not on_chain


# ---- alerts -------------------------------------------------------------------------------------------------------

class Emitter:
    """Applies the world's rules to signals and adds what fires without a fault."""

    def __init__(self, world, estate, rng, seed, span, trait, busy):
        self.world, self.estate, self.rng, self.span, self.trait = world, estate, rng, span, trait
        self.salt = f"{world.name}/{seed}/{rng.random()}"
        self.t0 = datetime.datetime(2025, 1, 6, tzinfo=datetime.timezone.utc) \
            + datetime.timedelta(minutes=rng.randint(0, 400000))
        self.lines = []
        self.busy, self.stretch = busy, 1.0
        self.taken = {}

    def run(self, faults):
        state = self.rng.getstate()
        for self.stretch in (1.0, 1.7, 3.0, 5.0):  # an estate that would notify too often has longer repeat intervals
            self.rng.setstate(state)
            self.lines, self.taken = [], {}
            self._faulty(faults)
            self._noise()
            if len(self.lines) <= MAX_LINES:
                break
        self.lines.sort(key=lambda pair: pair[0])
        return self.lines

    def _covers(self, rule, service, node, rack):
        if service is not None and not service.covered:
            return False
        owner = service.id if service is not None else (node.name if node is not None else rack)
        return random.Random(f"{self.salt}/{rule.name}/{rule.scope}/{owner}").random() < rule.cover

    def _faulty(self, faults):
        by_signal = {}
        for rule in self.world.rules:
            by_signal.setdefault(rule.signal, []).append(rule)
        found = {}
        for fault in faults:
            for s in fault.signals:
                for rule in by_signal.get(s.name, []):
                    if s.level < rule.floor or s.end - s.start < rule.wait or not self._covers(rule, s.service, s.node, s.rack):
                        continue
                    if rule.scope == "instance" and s.instance is None or rule.scope == "node" and s.node is None:
                        continue
                    where = Where(s.service, s.instance if rule.scope == "instance" else None, s.node, s.rack, fault.env)
                    key = json.dumps(self._labels(rule, where), sort_keys=True)
                    found.setdefault(key, []).append((s.start, s.end, s, rule, where))
        for key, parts in found.items():
            parts.sort(key=lambda p: p[0])
            merged = []
            for start, end, s, rule, where in parts:
                if merged and start <= merged[-1][1] + 60:  # still the same alert: it stays with the first cause
                    merged[-1][1] = max(merged[-1][1], end)
                else:
                    merged.append([start, end, s, rule, where])
            for start, end, s, rule, where in merged:
                self.taken.setdefault(key, []).append((start - 300, end + 300))
                fire = max(start, 0) + rule.wait + self.rng.uniform(0, 30)
                if end > fire:
                    flaps = s.flaps or self.rng.random() < 0.12
                    self._episode(rule, where, fire, end + self.rng.uniform(0, 45), s, flaps)

    def _noise(self):
        rng, world = self.rng, self.world
        base = rng.uniform(0.15, 0.9) * (len(self.lines) + 120)
        if self.trait == "global_noise":
            rule = rng.choice([c for c in world.chatter if c.scope in ("service", "instance")])
            for service in self.estate.services:
                if service.covered and rng.random() < 0.7:
                    for _ in range(rng.randint(1, 4)):
                        self._chatter(rule, service, rng.uniform(0, self.span))
        weights = [c.weight for c in world.chatter]
        floor = len(self.lines)
        for _ in range(4000):
            if len(self.lines) - floor > base:
                break
            rule = rng.choices(world.chatter, weights)[0]
            for _ in range(1 if rng.random() < 0.6 else rng.randint(2, 5)):
                self._chatter(rule, rng.choice(self.estate.services), rng.uniform(0, self.span))
        for rule in world.steady:
            count = 1 if rule.scope == "cluster" else rng.randint(1, 4)
            for _ in range(count):
                if rng.random() < rule.weight:
                    where = self._where(rule, rng.choice(self.estate.services))
                    if where and self._free(rule, where, 0, self.span):
                        self._episode(rule, where, rng.uniform(0, 60), self.span * 2, None, False,
                                      repeat=rng.choice([120, 300, 300, 600]))

    def _chatter(self, rule, service, start):
        where = self._where(rule, service)
        length = max(1.0, self.rng.expovariate(1 / rule.seconds))
        if where and self._free(rule, where, start, start + length):
            self._episode(rule, where, start, start + length, None, self.rng.random() < 0.2)

    def _where(self, rule, service):
        if rule.scope in ("cluster",):
            return Where()
        if service.kind == "external" or not service.instances:
            return None
        pod = self.rng.choice(service.instances)
        if rule.scope == "node":
            return Where(node=pod.node, env=service.env)
        return Where(service, pod if rule.scope == "instance" else None, None, "", service.env)

    def _free(self, rule, where, start, end):
        key = json.dumps(self._labels(rule, where), sort_keys=True)
        busy = self.taken.get(key, [])
        if any(a < end and start < b for a, b in busy):
            return False
        self.taken.setdefault(key, []).append((start, end))
        return True

    def _labels(self, rule, where):
        labels = self.world.labels(rule, where)
        if self.trait == "one_alertname":
            for name in ("alertname", "monitor", "trigger", "event"):
                if name in labels:
                    labels[name] = "ServiceAlert"
        return labels

    def _episode(self, rule, where, start, end, signal, flaps, repeat=None):
        """Lines of one alert: firing, its repeats, its end; a flapping one comes and goes within the time."""
        rng = self.rng
        repeat = (repeat or random.Random(f"{self.salt}/repeat/{rule.name}").choice(self.world.repeats))
        repeat = max(60.0, repeat * self.busy) * self.stretch
        at = start
        while at < min(end, self.span):
            stop = min(end, at + rng.uniform(60, 420)) if flaps else end
            tick = at
            while tick < min(stop, self.span):
                self._line(rule, where, tick, None, signal)
                tick += repeat * rng.uniform(0.97, 1.03)
            if stop < self.span and rng.random() < self.world.resolves:
                self._line(rule, where, stop, at, signal)
            at = stop + rng.uniform(40, 240) if flaps else end

    def _line(self, rule, where, at, since, signal):
        """A firing line at `at`, or, with `since`, the line that says the alert of `since` ended at `at`."""
        line = {"labels": self._labels(rule, where), "annotations": self._notes(rule, where, signal, since)}
        if since is None:
            line.update(startsAt=self._time(at), status="firing")
            if signal is not None and self.rng.random() < 0.3:
                line["value"] = round(signal.level * self.rng.uniform(0.9, 1.1), 3)
        else:
            line.update(startsAt=self._time(since), endsAt=self._time(at), status="resolved")
        fault = signal.fault if signal is not None else None
        line["truth"] = fault.id if fault else None
        line["severity_truth"] = fault.severity if fault else None
        self.lines.append((line["endsAt"] if since is not None else line["startsAt"], line))

    def _time(self, at):
        moment = self.t0 + datetime.timedelta(seconds=at)
        return moment.isoformat(timespec="milliseconds" if self.world.milliseconds else "seconds").replace("+00:00", "Z")

    def _notes(self, rule, where, signal, since):
        """Annotations; their numbers stay put between repeats half of the time, as with templated values."""
        moment = int((since or 0) / 300)
        r = random.Random(f"{self.salt}/{rule.name}/{where.service and where.service.name}/{moment}")
        level = signal.level if signal is not None else r.uniform(0.2, 0.6)
        via = signal.via if signal is not None else None
        service = where.service
        node = where.node or (where.instance.node if where.instance else None)
        others = [e.callee.name for e in self.estate.calls.get(service, [])] if service else []
        facts = {
            "service": service.name if service else "", "ns": service.namespace if service else "",
            "pod": where.instance.name if where.instance else "", "node": node.name if node else "",
            "instance": where.instance.name if where.instance else (node.name if node else ""),
            "rack": where.rack or (node.rack if node else ""), "via": via.name if via else "",
            "other": r.choice(others) if others else "cache", "phrase": signal.fault.phrase if signal else "",
            "pct": round(100 * min(0.99, level * r.uniform(0.85, 1.1))), "low": r.randint(1, 9), "few": r.randint(3, 9),
            "secs": round(r.uniform(1.2, 9.5), 1), "count": r.randint(2000, 90000), "burn": round(r.uniform(2, 20), 1),
        }
        if self.trait == "one_alertname":
            named = {"check": rule.name.replace("{service}", facts["service"])}
            return {**self.world.annotations(rule, where, facts), **named}
        return self.world.annotations(rule, where, facts)


# ---- fairness, topology, meta -------------------------------------------------------------------------------------

def _fair(world, lines, faults):
    for fault in faults:
        firing = [line for _, line in lines if line["truth"] == fault.id and line["status"] == "firing"]
        seen = {}
        for line in firing:
            seen.setdefault(json.dumps(line["labels"], sort_keys=True), []).append(line)
        if len(firing) < 3 or len(seen) < 2:
            return False
        if not any(_strong(world, same) for same in seen.values()):
            return False
    return True


def _strong(world, same):
    word = world.severity_of(same[0]["labels"])
    if word in world.strong:
        return True
    times = [datetime.datetime.fromisoformat(line["startsAt"].replace("Z", "+00:00")) for line in same]
    return word in world.persistent and (max(times) - min(times)).total_seconds() >= LASTS


def _topology(world, estate, rng):
    missing = rng.choice([0.0, 0.0, 0.1])
    hide_external = rng.random() < 0.3  # tracing often does not see third parties
    suffix = rng.random() < 0.15 and world.name in ("kube", "mesh", "deploys")

    def name(service):
        return f"{service.name}.{service.namespace}" if suffix else world.topology_name(service)

    shown = [s for s in estate.services if s.env == "production" and not (hide_external and s.kind == "external")]
    nodes = [name(s) for s in shown]
    edges = [{"from": name(e.caller), "to": name(e.callee)} for e in estate.edges
             if e.caller in shown and e.callee in shown and rng.random() >= missing]
    if world.topology_nodes():
        used = {i.node.name for s in shown for i in s.instances}
        nodes += sorted(used)
        edges += [{"from": name(s), "to": i.node.name} for s in shown for i in s.instances]
    return {"nodes": nodes, "edges": edges}


def _meta(world, seed, estate, faults, trait, has_topology, lines):
    truth = [line["truth"] for _, line in lines]
    base = min(f.start for f in faults)
    return {
        "world": world.name, "seed": seed, "hard": trait is not None, "hard_trait": trait, "topology": has_topology,
        "services": len(estate.services), "nodes": len(estate.nodes), "alerts": len(lines),
        "noise": sum(t is None for t in truth),
        "faults": [{"id": f.id, "kind": f.kind, "root": f.root_name, "env": f.env, "severity": f.severity,
                    "onset_s": round(f.start - base), "duration_s": round(f.end - f.start),
                    "alerts": truth.count(f.id)} for f in faults],
    }
