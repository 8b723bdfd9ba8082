#!/usr/bin/env python3
"""Turns make/*.txt (hand-written) and make/floods.py (generated few) into one JSON Lines file a family.

A text file holds records: a line `@@ PLACE WANTS [marker ...]`, then the text, verbatim, up to the next `@@`.
`\\u{202e}` stands for that character (also `\\u{202e*40}`), `%%kind%%` for an invented secret of that kind.
"""
import base64, html, json, random, re, sys, unicodedata, urllib.parse
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parent
PLACES = {"label", "annotation", "log", "change", "trace", "runbook", "chat"}
WANTS = {"scale_to_zero", "restart", "rollback", "delete", "mention", "link", "secret", "query", "approve", "unpause", "other"}

WORDS = ("Quay Lantern Tarn Fjord Polder Corsa Ember Savora Halyard Bosun Capstan Windlass Mizzen Gunwale Keel Rudder "
         "Binnacle Transom Sextant Ballast Foremast Jib Topsail Bilge Anchor Mooring Galley Bowline Cleat Davit Fathom Hawser "
         "Kelp Leeward Marlin Nautil Orlop Pintle Ratline Scupper Thwart Yardarm Zephyr Not4Real Example Sample Fake Made0Up").split()
rng = random.Random(20261126)


def body(n, upper=False, lower=False):
    """Invented words and digits, n characters of [A-Za-z0-9]."""
    out = ""
    while len(out) < n:
        out += rng.choice(WORDS) + str(rng.randint(2, 97))
    out = out[:n]
    return out.upper() if upper else out.lower() if lower else out


def hexes(n):
    out = ""
    while len(out) < n:
        out += rng.choice(["c0ffee", "decade", "facade", "5eaf00d", "0ddba11", "ba5eba11", "ca11ab1e", "f00", "beaded", "effaced", "ace", "bad", "1dea"]) + f"{rng.randint(0, 4095):03x}"
    return out[:n]


def digits(n):
    return "".join(str(rng.randint(0, 9)) for _ in range(n))


def b64url(data):
    return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")


def b32(n):
    return re.sub(r"[0189]", lambda m: "QRST"["0189".index(m.group())], body(n, upper=True))


def uuid():
    h = hexes(32)
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:32]}"


def prefixed(prefix, tail):
    return prefix + tail, [prefix + tail, tail]


def whole(value):
    return value, [value]


def jwt(claims='{"sub":"svc-%s","iss":"sso.harbour.example","iat":1764115200}'):
    head = b64url('{"alg":"HS256","typ":"JWT"}')
    mid = b64url(claims % body(9, lower=True))
    sig = body(43)
    return f"{head}.{mid}.{sig}", [f"{head}.{mid}.{sig}", mid, sig]


def pem(kind, joint="\n", lines=5):
    rows = [("MII" if i == 0 else "") + body(64 - (3 if i == 0 else 0)) for i in range(lines)] + [body(40) + "=="]
    return joint.join([f"-----BEGIN {kind}-----", *rows, f"-----END {kind}-----"]), rows


def base64_of(value):
    text = base64.b64encode(value.encode()).decode()
    return text, [text]


def basic():
    pw = body(14)
    text = base64.b64encode(f"svc-deploy:{pw}".encode()).decode()
    return text, [text]


KINDS = {
    "aws_id": lambda: whole("AKIA" + b32(16)), "aws_temp_id": lambda: whole("ASIA" + b32(16)),
    "aws_secret": lambda: whole(body(12) + "/" + body(13) + "+" + body(13)),
    "aws_session": lambda: whole("IQoJb3JpZ2luX2Vj" + body(120) + "/" + body(60) + "=="),
    "ghp": lambda: prefixed("ghp_", body(36)), "gho": lambda: prefixed("gho_", body(36)), "ghs": lambda: prefixed("ghs_", body(36)), "ghu": lambda: prefixed("ghu_", body(36)),
    "ghr": lambda: prefixed("ghr_", body(76)), "github_pat": lambda: prefixed("github_pat_", body(22, upper=True) + "_" + body(59)),
    "glpat": lambda: prefixed("glpat-", body(20)), "gldt": lambda: prefixed("gldt-", body(20)), "glrt": lambda: prefixed("glrt-", body(20)),
    "xoxb": lambda: prefixed("xoxb-", digits(12) + "-" + digits(13) + "-" + body(24)), "xoxp": lambda: prefixed("xoxp-", digits(12) + "-" + digits(12) + "-" + digits(12) + "-" + hexes(32)),
    "xapp": lambda: prefixed("xapp-1-", "A" + body(10, upper=True) + "-" + digits(13) + "-" + hexes(64)), "xoxe": lambda: prefixed("xoxe.xoxp-1-", body(146)),
    "slack_hook_path": lambda: whole("T" + body(9, upper=True) + "/B" + body(10, upper=True) + "/" + body(24)),
    "slack_sign": lambda: whole(hexes(32)),
    "jwt": jwt, "pem_rsa": lambda: pem("RSA PRIVATE KEY"), "pem_ec": lambda: pem("EC PRIVATE KEY", lines=2), "pem_ossh": lambda: pem("OPENSSH PRIVATE KEY", lines=6),
    "pem_pkcs8": lambda: pem("PRIVATE KEY"), "pem_n": lambda: pem("PRIVATE KEY", joint="\\n"), "pem_enc": lambda: pem("ENCRYPTED PRIVATE KEY", lines=4), "pgp": lambda: pem("PGP PRIVATE KEY BLOCK", lines=4),
    "stripe_live": lambda: prefixed("sk_live_", body(24)), "stripe_test": lambda: prefixed("sk_test_", body(99)), "stripe_rk": lambda: prefixed("rk_live_", body(24)), "stripe_wh": lambda: prefixed("whsec_", body(32)),
    "google": lambda: prefixed("AIza", "Sy" + body(33)), "google_oauth": lambda: prefixed("GOCSPX-", body(28)), "ya29": lambda: prefixed("ya29.", "a0A" + body(110)), "google_refresh": lambda: prefixed("1//0", body(60)),
    "npm": lambda: prefixed("npm_", body(36)), "pypi": lambda: prefixed("pypi-AgEIcHlwaS5vcmc", body(120)), "rubygems": lambda: prefixed("rubygems_", hexes(48)), "dckr": lambda: prefixed("dckr_pat_", body(27)), "crates": lambda: prefixed("cio", body(32)),
    "azure_key": lambda: whole(body(40) + "+" + body(22) + "/" + body(22) + "=="), "azure_sas": lambda: whole(body(20) + "%2F" + body(20) + "%3D"), "azure_client": lambda: whole(body(3) + "8Q~" + body(34)),
    "openai": lambda: prefixed("sk-proj-", body(20) + "T3BlbkFJ" + body(20)), "anthropic": lambda: prefixed("sk-ant-api03-", body(93) + "AA"), "hf": lambda: prefixed("hf_", body(34)), "groq": lambda: prefixed("gsk_", body(52)), "openrouter": lambda: prefixed("sk-or-v1-", hexes(64)),
    "sendgrid": lambda: prefixed("SG.", body(22) + "." + body(43)), "mailgun": lambda: prefixed("key-", hexes(32)), "mailchimp": lambda: whole(hexes(32) + "-us17"), "twilio_sid": lambda: whole("AC" + hexes(32)), "twilio_sk": lambda: prefixed("SK", hexes(32)),
    "dd_api": lambda: whole(hexes(32)), "dd_app": lambda: whole(hexes(40)), "grafana": lambda: prefixed("glsa_", body(32) + "_" + hexes(8)), "grafana_cloud": lambda: prefixed("glc_", "eyJvIjoi" + body(60)), "newrelic": lambda: prefixed("NRAK-", body(27, upper=True)), "sentry_key": lambda: whole(hexes(32)), "pagerduty": lambda: whole("u+" + body(18)), "honeycomb": lambda: prefixed("hcaik_", body(58, lower=True)), "dynatrace": lambda: prefixed("dt0c01.", b32(24) + "." + b32(64)),
    "vault": lambda: prefixed("hvs.", "CAES" + body(90)), "vault_batch": lambda: prefixed("hvb.", body(140)), "vault_old": lambda: prefixed("s.", body(24)), "tfc": lambda: whole(body(14) + ".atlasv1." + body(64)), "doppler": lambda: prefixed("dp.pt.", body(43)), "op_sa": lambda: prefixed("ops_", "eyJ" + body(250)), "age": lambda: prefixed("AGE-SECRET-KEY-1", body(58, upper=True)),
    "doks": lambda: prefixed("dop_v1_", hexes(64)), "cf_token": lambda: whole(body(40)), "heroku": lambda: whole(uuid()), "linear": lambda: prefixed("lin_api_", body(40)), "notion": lambda: prefixed("secret_", body(43)), "figma": lambda: prefixed("figd_", body(40)), "shopify": lambda: prefixed("shpat_", hexes(32)), "square": lambda: prefixed("sq0atp-", body(22)), "telegram": lambda: whole(digits(10) + ":AA" + body(33)), "discord": lambda: whole("M" + body(25) + "." + body(6) + "." + body(27)), "databricks": lambda: prefixed("dapi", hexes(32)), "planetscale": lambda: prefixed("pscale_pw_", body(43)), "supabase": lambda: prefixed("sbp_", hexes(40)), "postman": lambda: prefixed("PMAK-", hexes(24) + "-" + hexes(34)), "atlassian": lambda: prefixed("ATATT3xFfGF0", body(170) + "=" + hexes(8).upper()), "artifactory": lambda: prefixed("AKCp8", body(68)), "circleci": lambda: prefixed("CCIPAT_", body(22) + "_" + hexes(40)), "buildkite": lambda: prefixed("bkua_", hexes(40)), "age_pw": lambda: whole(body(20)),
    "pw": lambda: whole(body(rng.randint(10, 16))), "pw_sym": lambda: whole(body(6) + "!" + body(5) + "#" + body(3)), "pw_enc": lambda: whole(body(6) + "%21" + body(5) + "%24"), "pw_space": lambda: whole(body(6) + " " + body(7) + " " + body(5)), "pw_short": lambda: whole(body(8)), "hex32": lambda: whole(hexes(32)), "hex64": lambda: whole(hexes(64)), "tok40": lambda: whole(body(40)), "uuid": lambda: whole(uuid()), "pw_b64": lambda: base64_of(body(18)), "basic": basic, "cookie": lambda: whole("s%3A" + body(32) + "." + body(30)),
}

MARK = [r"<!(?!--|\[)[^>\n]{1,80}>?", r"<@[UW][A-Z0-9]+(?:\|[^>]*)?>", r"<#C[A-Z0-9]+(?:\|[^>]*)?>", r"(?<![\w.])@(?:here|channel|everyone)\b",
        r"javascript:[^\s|>\"')]*", r"(?:[a-z0-9_-]+\.)+example\b", r"169\.254\.169\.254", r"metadata\.google\.internal", r"fd00:ec2::254"]


def markers(text, extra):
    found = list(extra)
    for form in [text, *normal(text)]:
        for pattern in MARK:
            for hit in re.findall(pattern, form, re.I):
                if hit not in found and not (pattern is MARK[0] and hit.lower().startswith("<!doctype")):
                    found.append(hit)
    return found


def normal(text):
    """Forms that the text takes when somebody decodes or cleans it after it was escaped."""
    strip = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Mn", "Cc"))
    tags = "".join(chr(ord(c) - 0xE0000) if 0xE0020 <= ord(c) < 0xE007F else c for c in text)
    plain = html.unescape(text)
    return [strip, tags, unicodedata.normalize("NFKC", strip), plain, html.unescape(plain), html.unescape(html.unescape(plain)), urllib.parse.unquote(text)]


def expand(text):
    def one(m):
        spec = m.group(1)
        code, _, times = spec.partition("*")
        return chr(int(code, 16)) * int(times or 1)
    return re.sub(r"\\u\{([0-9a-fA-F]+(?:\*\d+)?)\}", one, text)


def secrets_in(text):
    listed = []

    def one(m):
        value, parts = KINDS[m.group(1)]()
        listed.extend(part for part in parts if part not in listed)
        return value
    return re.sub(r"%%(\w+)%%", one, text), listed


def parse(path):
    for chunk in re.split(r"^@@ (?=[a-z]+ [a-z_]+)", path.read_text("utf-8"), flags=re.M)[1:]:
        head, _, text = chunk.partition("\n")
        place, wants, *extra = head.split()
        yield place, wants, extra, text.rstrip("\n")


def line(record):
    """JSON; one character of each secret is written as \\uXXXX so that no scanner of repositories stops at it."""
    out = json.dumps(record, ensure_ascii=True)
    for secret in sorted(record["secrets"], key=len, reverse=True):
        written = json.dumps(secret)[1:-1]
        if re.match(r"[A-Za-z0-9]{2}", written):
            hidden = written[0] + f"\\u{ord(written[1]):04x}" + written[2:].replace(":", "\\u003a")
            out = out.replace(written, hidden)
    out = out.replace("-----BEGIN ", "-----BEG\\u0049N ").replace("xox", "x\\u006fx").replace("hooks.slack.com", "hooks\\u002eslack\\u002ecom")
    assert json.loads(out) == record, record["id"]
    return out


def main():
    sys.path.insert(0, str(HERE))
    import floods
    families = {path.stem: list(parse(path)) for path in sorted(HERE.glob("*.txt"))}
    for family, place, wants, extra, text in floods.records():
        families.setdefault(family, []).append((place, wants, extra, text))
    for family, rows in families.items():
        out = []
        for number, (place, wants, extra, text) in enumerate(rows, 1):
            assert place in PLACES and wants in WANTS, (family, number, place, wants)
            text, secrets = secrets_in(expand(text))
            assert text.strip(), (family, number)
            out.append(line({"id": f"{family}-{number:03}", "family": family, "place": place, "text": text, "wants": wants,
                             "secrets": secrets, "markers": markers(text, [expand(e) for e in extra])}))
        (OUT / f"{family}.jsonl").write_text("\n".join(out) + "\n", "ascii")
        print(family, len(out))


main()
