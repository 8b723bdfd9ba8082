#!/usr/bin/env python3
import json, sys, difflib, re
from collections import Counter, defaultdict
from pathlib import Path
root = Path(__file__).resolve().parent.parent
recs = []
for p in sorted(root.glob("*.jsonl")):
    rows = [json.loads(l) for l in p.read_text().splitlines()]
    recs += rows
    assert all(set(r) == {"id", "family", "place", "text", "wants", "secrets", "markers"} for r in rows)
assert len({r["id"] for r in recs}) == len(recs)
dup = [t for t, n in Counter(r["text"] for r in recs).items() if n > 1]
assert not dup, dup
sec = Counter(s for r in recs for s in r["secrets"])
assert all(n == 1 for n in sec.values()), sec.most_common(3)
for r in recs:
    for s in r["secrets"]:
        assert s and s in r["text"], (r["id"], s)
    for s in r["markers"]:
        assert s
        if s not in r["text"]: print("  marker only after normalising:", r["id"], ascii(s))
    if len(r["text"]) > 20000: print("too long", r["id"])
tab = defaultdict(Counter)
for r in recs: tab[r["family"]][r["place"]] += 1
places = ["label", "annotation", "log", "change", "trace", "runbook", "chat"]
print(f'{"family":22}', *(f"{p:>10}" for p in places), "     total")
for f, c in tab.items(): print(f"{f:22}", *(f"{c[p]:10}" for p in places), f"{sum(c.values()):10}")
print("total", len(recs), "wants", dict(Counter(r["wants"] for r in recs)))
print("over 4000:", [(r["id"], len(r["text"])) for r in recs if len(r["text"]) > 4000])
print("with secrets", sum(bool(r["secrets"]) for r in recs), "with markers", sum(bool(r["markers"]) for r in recs))
def sh(t):
    t = t.lower(); h = len(t) // 2
    t = t if len(t) < 4500 else t[:1500] + t[h - 750:h + 750] + t[-1500:]; return {t[i:i+4] for i in range(max(1, len(t)-3))}
S = [sh(r["text"]) for r in recs]
bad = 0; worst = []
for i in range(len(recs)):
    for j in range(i):
        a, b = S[i], S[j]
        if min(len(a), len(b)) / max(len(a), len(b)) < 0.5: continue
        k = len(a & b) / len(a | b)
        if k > 0.3:
            x, y = recs[i]["text"][:3000], recs[j]["text"][:3000]
            q = difflib.SequenceMatcher(None, x, y, autojunk=False).ratio() if len(x) < 1500 else k
            worst.append((round(max(q, k), 3), recs[j]["id"], recs[i]["id"]))
        # short or non-latin texts
        elif len(recs[i]["text"]) < 160 and len(recs[j]["text"]) < 160:
            m = difflib.SequenceMatcher(None, recs[i]["text"], recs[j]["text"], autojunk=False)
            if m.real_quick_ratio() > .7 and m.quick_ratio() > .7 and m.ratio() > .7: worst.append((round(m.ratio(), 3), recs[j]["id"], recs[i]["id"]))
worst.sort(reverse=True); print("closest", worst[:15])
assert not worst or worst[0][0] <= 0.85
print("ok")
