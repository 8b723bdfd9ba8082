//! Credentials that their form gives away.
//!
//! The prefixes are those of the published rule sets (gitleaks `config/gitleaks.toml`, the detectors of
//! trufflehog, the plugins of detect-secrets) and of the vendors' own pages. Lengths are shorter than
//! the vendors': a token cut by a log's line limit is still most of a token.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use super::{CACHE, Found, ascii, compiled, shape};

struct Format {
    /// Literals without which the pattern cannot match.
    gate: &'static str,
    /// Group 1, when there is one, is the secret; otherwise all of the match is.
    pattern: &'static str,
    mark: &'static str,
    also: Also,
}

/// What must hold besides the pattern.
#[derive(Clone, Copy)]
enum Also {
    Nothing,
    /// Not a name: the prefix is also a word.
    Mixed,
    /// It looks as if drawn by chance: the prefix is short.
    Random,
    /// Its parts are not all words, numbers and the short hashes of workloads: the prefix may begin a name.
    Unnamed,
    /// Both: behind a word.
    MixedUnnamed,
    /// Random, or the digits of a project's key (Sentry).
    Userinfo,
    /// `user:password` once decoded.
    Pair,
    /// Base64 of what cannot be read.
    Opaque,
    /// Not a port and a path, before an `@` further on.
    NotPort,
}

const fn plain(gate: &'static str, pattern: &'static str, mark: &'static str) -> Format {
    Format { gate, pattern, mark, also: Also::Nothing }
}

const fn with(also: Also, gate: &'static str, pattern: &'static str, mark: &'static str) -> Format {
    Format { gate, pattern, mark, also }
}

/// Where a header tells of it, that is the better mark.
pub const BEARER: &str = "bearer token";

/// Whole blocks first: where two formats overlap, the earlier gives the mark.
const FORMATS: &[Format] = &[
    // RFC 7468, RFC 4716 (four dashes and a space), OpenPGP armour; in one line, escaped or indented.
    plain(
        r"(?i-u:PRIVATE KEY)",
        r"(?is)-{4,5} ?BEGIN[A-Z0-9 _-]{0,60}PRIVATE KEY(?: BLOCK)? ?-{4,5}.*?-{4,5} ?END[A-Z0-9 _-]{0,60}PRIVATE KEY(?: BLOCK)? ?-{4,5}",
        "private key",
    ),
    // Cut at its end: only what can be a body, so that a forged first line blinds nobody.
    plain(
        r"(?i-u:PRIVATE KEY)",
        r#"(?i)-{4,5} ?BEGIN[A-Z0-9 _-]{0,60}PRIVATE KEY(?: BLOCK)? ?-{0,5}(?:(?:\s|\\+[nrt]|["'|>+,-])*(?:(?:Proc-Type|DEK-Info|Version|Comment|Hash):[^\n\\]*|[a-z0-9+/]{16,}={0,2}|[a-z0-9+/]{2,}={1,2}))*(?:(?:\s|\\+[nrt])+[a-z0-9+/]{4,}\s*\z)?"#,
        "private key",
    ),
    // Cut at its beginning.
    plain(
        r"(?i-u:PRIVATE KEY)",
        r"(?i)(?:[a-z0-9+/=]{16,}(?:\s|\\+[nrt])+)+(?:[a-z0-9+/=]{1,76}(?:\s|\\+[nrt])*)?-{4,5} ?END[A-Z0-9 _-]{0,60}PRIVATE KEY(?: BLOCK)? ?-{4,5}",
        "private key",
    ),
    // PuTTY's PPK: the public lines may stay.
    plain(
        r"Private-Lines",
        r"Private-Lines: ?\d+((?:\s+[A-Za-z0-9+/=]{16,})+(?:\s+[A-Za-z0-9+/]+={1,2})?)",
        "private key",
    ),
    plain(r"Private-(?:MAC|Hash)", r"Private-(?:MAC|Hash): ?([0-9a-fA-F]{20,})", "private key"),
    plain(r"AGE-", r"\bAGE-(?:SECRET|PLUGIN)-[A-Z0-9-]*1[A-Z0-9]{16,}", "age key"),
    plain(r"eyJrIjoi", r"\beyJrIjoi[A-Za-z0-9+/_-]{16,}={0,2}", "Grafana key"),
    plain(r"ops_eyJ", r"\bops_eyJ[A-Za-z0-9+/_-]{20,}={0,2}", "1Password token"),
    // RFC 7519; five parts when encrypted (RFC 7516). `ZXlK` is a token once more in Base64.
    plain(r"eyJ|ewog", r"\b(?:eyJ|ewog)[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{4,}){1,4}\.?", "JWT"),
    plain(r"ZXlK", r"\bZXlK[A-Za-z0-9+/_-]{30,}={0,2}", "JWT"),
    plain(
        r"xox|xapp-|xwfp-",
        r"\bxox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{8,}|\b(?:xapp|xwfp)-[A-Za-z0-9-]{8,}",
        "Slack token",
    ),
    plain(
        r"hooks\.slack",
        r"(hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[A-Za-z0-9/+_-]{10,})",
        "Slack webhook",
    ),
    plain(
        r"(?i-u:webhooks/|webhook\.office)",
        r"(?i)\bdiscord(?:app)?\.com/api/(?:v\d+/)?webhooks/(\d+/[\w-]{20,})|\bwebhook\.office\.com/(webhook[^\s\x22'<>]{20,})",
        "webhook",
    ),
    // IAM identifiers: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    plain(
        r"A3T|AKIA|ASIA|AROA|AIDA|ABIA|ACCA|AGPA|AIPA|ANPA|ANVA",
        r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|AROA|AIDA|ABIA|ACCA|AGPA|AIPA|ANPA|ANVA)[A-Z0-9]{16}\b",
        "AWS key id",
    ),
    plain(
        r"FwoGZXIv|IQoJb3Jp|FQoGZXIv|ABSK",
        r"\b(?:FwoGZXIv|IQoJb3Jp|FQoGZXIv)[A-Za-z0-9/+=%_-]{20,}|\bABSK[A-Za-z0-9+/]{60,}=*",
        "AWS token",
    ),
    plain(r"AIza|GOCSPX|ya29\.|1//0", r"\bAIza[\w-]{24,}|\bGOCSPX-[\w-]{16,}", "Google key"),
    plain(r"ya29\.|1//0", r"\bya29\.[\w.-]{16,}|\b1//0[\w-]{24,}", "Google token"),
    // Microsoft's pages on identifiable secrets: `Q~` in an Entra secret, signatures in storage keys.
    plain(r"Q~", r"\b[\w.~-]{3}\dQ~[\w.~-]{24,}", "Azure secret"),
    with(Also::Opaque, r"[A-Za-z0-9+/]==", r"(?:^|[^A-Za-z0-9+/-])([A-Za-z0-9+/]{80,}==)", "Azure key"),
    plain(r"gh[pousr]_|github_pat_", r"\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{20,}", "GitHub token"),
    plain(
        r"gl[a-z]+-|GR1348941",
        r"\bgl(?:pat|dt|rtr|rt|cbt|ptt|ft|imt|agent|oas|soat|ffct|wt)-[\w-]{12,}(?:\.[\w]{2,}){0,2}|\bGR1348941[\w-]{12,}",
        "GitLab token",
    ),
    plain(r"npm_", r"\bnpm_[A-Za-z0-9]{24,}", "npm token"),
    plain(r"pypi-Ag", r"\bpypi-Ag[\w-]{16,}", "PyPI token"),
    plain(r"rubygems_|dckr_", r"\b(?:rubygems_|dckr_[op]at_)[\w-]{12,}", "registry token"),
    with(Also::Mixed, r"hf_|api_org_", r"\b(?:hf_|api_org_)[A-Za-z0-9]{16,}", "Hugging Face token"),
    with(Also::Mixed, r"SG\.", r"\bSG\.[\w-]{10,}\.[\w-]{10,}", "SendGrid key"),
    plain(r"(?:AC|SK)[0-9a-f]{8}", r"\b(?:AC|SK)[0-9a-f]{32}\b", "Twilio id"),
    plain(r"key-[0-9a-f]{8}", r"\b(?:pub)?key-[0-9a-f]{32}\b", "Mailgun key"),
    with(Also::Mixed, r"\bkey-[A-Za-z0-9]{8}", r"\bkey-[A-Za-z0-9]{24,}\b", "Mailgun key"),
    plain(r"-us\d", r"\b[0-9a-f]{32}-us\d{1,2}\b", "Mailchimp key"),
    plain(r"glsa_|glc_", r"\b(?:glsa|glc)_[A-Za-z0-9+/_=-]{16,}", "Grafana token"),
    plain(r"NR[A-Z]{2}-|NRAL", r"\bNR[A-Z]{2}-[A-Za-z0-9-]{16,}|\b[0-9a-f]{30,40}NRAL\b", "New Relic key"),
    plain(r"dt0[a-z]\d", r"\bdt0[a-z]\d\d\.[A-Z0-9]{8,}(?:\.[A-Z0-9]{16,})?", "Dynatrace token"),
    plain(r"hv[sbr]\.", r"\bhv[sbr]\.[\w-]{16,}", "Vault token"),
    with(Also::Random, r"\b[sbr]\.[A-Za-z0-9]{24}", r"\b[sbr]\.[A-Za-z0-9]{24,}\b", "Vault token"),
    plain(r"atlasv1", r"\b[\w-]{6,}\.atlasv1\.[\w=-]{16,}", "Terraform token"),
    plain(r":AA", r"\b\d{6,16}:AA[\w-]{20,}", "Telegram token"),
    with(Also::Random, r"(?i-u:discord)", r"\b[MNO][A-Za-z\d_-]{22,27}\.[\w-]{6}\.[\w-]{25,}", "Discord token"),
    plain(r"dapi|dkea|dose", r"\b(?:dapi|dkea|dose)[0-9a-h]{32}(?:-\d)?\b", "Databricks token"),
    plain(r"AT[A-Z]{2}T?3|ATBB|ATOA", r"\bAT[A-Z]{2}T3[\w=-]{20,}|\b(?:ATBB|ATOA)[A-Za-z0-9]{20,}", "Atlassian token"),
    plain(r"AKCp|cmVmd", r"\bAKCp[A-Za-z0-9]{40,}|\bcmVmd[A-Za-z0-9]{40,}", "Artifactory token"),
    with(Also::Mixed, r"LTAI|AKID", r"\bLTAI[A-Za-z0-9]{12,}|\bAKID[A-Za-z0-9]{28,}", "cloud key id"),
    plain(r"T3BlbkFJ", r"[\w-]{6,}T3BlbkFJ[\w-]{6,}", "API key"),
    plain(
        r"\b[srpe]k_[ltp]|whsec_|\bsk-(?:proj|ant|or|svcacct|admin|live|test)",
        r"\b(?:sk|rk|pk|ek)_(?:live|test|prod)_[A-Za-z0-9]{10,}|\bwhsec_[A-Za-z0-9+/=]{16,}|\bsk-(?:proj|ant|or|svcacct|admin|live|test)-[A-Za-z0-9_-]{20,}",
        "API key",
    ),
    with(Also::Unnamed, r"\b[srp]k[-_]", r"\b[srp]k[-_]((?:[a-z]+[-_])*[A-Za-z0-9_-]{20,})", "API key"),
    // Underscored prefixes of many vendors, each from its page on tokens.
    with(
        Also::Mixed,
        r"\b(?:gsk|r8|do[opr]_v1|lin_api|lin_oauth|ntn|fig[a-z]{1,2}|sb[psv]|sb_secret|sb_publishable|pscale_(?:tkn|oauth|pw)|shp(?:at|ca|pa|ss|tka|ua)|shippo_(?:live|test)|sntry[su]|sgp|fo1|fm[12][ar]?|nf[pcoub]|vc[piark]|cf(?:k|ut|at)|pnu|rdme|tfp|duffel_(?:live|test)|sq[pau]|snyk(?:_[a-z]+)?|bk(?:ua|at|ct|a|pi)|hc[a-z]{2,3}|essu|lsv2_(?:pt|sk)|pcsk|sm_[aps]at|clojars|authress|dp_live|wandb|phc|phx|ctx7sk|cal_live|tr_(?:dev|prod)|xoxd|dop)_",
        r"\b(?:gsk|r8|do[opr]_v1|lin_api|lin_oauth|ntn|fig[a-z]{1,2}|sb[psv]|sb_secret|sb_publishable|pscale_(?:tkn|oauth|pw)|shp(?:at|ca|pa|ss|tka|ua)|shippo_(?:live|test)|sntry[su]|sgp|fo1|fm[12][ar]?|nf[pcoub]|vc[piark]|cf(?:k|ut|at)|pnu|rdme|tfp|duffel_(?:live|test)|sq[pau]|snyk(?:_[a-z]+)?|bk(?:ua|at|ct|a|pi)|hc[a-z]{2,3}|essu|lsv2_(?:pt|sk)|pcsk|sm_[aps]at|clojars|authress|dp_live|wandb|phc|phx|ctx7sk|cal_live|tr_(?:dev|prod)|xoxd|dop)_[\w.=+/-]{16,}",
        "API token",
    ),
    plain(r"CCIP|CLOJARS_|HRKU", r"\bCCI(?:PAT|PRJ)_\w{16,}|\bCLOJARS_\w{20,}|\bHRKU-AA[\w-]{20,}", "API token"),
    // Words as well.
    with(
        Also::MixedUnnamed,
        r"\b(?:secret|napi|rnd|re|live|ops)_",
        r"\b(?:secret|napi|rnd|re|live|ops)_([\w.-]{16,})",
        "API token",
    ),
    // Prefixes that end in a dash or a dot.
    with(
        Also::Mixed,
        r"\b(?:PMAK-|pplx-|xai-|pul-|sq0|v1\.0-[0-9a-f]|p8e-|x(?:key|smtp)sib-|CFPAT-|tskey-|nvapi-|tvly-|ico-|tk-us-|fio-u-|dnkey-|API-|FLW|bedrock-api-key|s-s4t2|fc-|A3-|pat-(?:na|eu)|access-(?:sand|dev|prod))",
        r"\b(?:PMAK|pplx|xai|pul|sq0[a-z]{3}|p8e|xkeysib|xsmtpsib|CFPAT|tskey(?:-[a-z]+)?|nvapi|tvly(?:-[a-z]+)?|ico|tk-us|fio-u|dnkey|FLW(?:SECK|PUBK)(?:_TEST)?|bedrock-api-key|s-s4t2(?:ud|af)|pat-(?:na|eu)\d|access-(?:sandbox|development|production))-[\w=+/-]{16,}|\bv1\.0-[0-9a-f]{24}-[0-9a-f]{16,}|\bAPI-[A-Z0-9]{26}\b|\bfc-[0-9a-f]{32}\b|\bA3-[A-Z0-9]{6}-[A-Z0-9-]{20,}",
        "API token",
    ),
    with(
        Also::Mixed,
        r"\b(?:dp\.[a-z]|[ps]at\.[A-Za-z0-9]|pat[A-Za-z0-9]{14}\.|sl\.[A-Za-z0-9]|t1\.[A-Z0-9a-z]|sha256~|oy2[a-z0-9]{8}|cio[A-Za-z0-9]{8}|AQVN|EAA[A-Z]|amzn\.mws|EZ[AT]K|y0_)|_mmk",
        r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{20,}|\b(?:pat|sat)\.[\w-]{16,}\.[A-Za-z0-9]{16,}\.[A-Za-z0-9]{12,}|\bpat[A-Za-z0-9]{14}\.[0-9a-f]{32,}|\bsl\.[\w=-]{60,}|\bt1\.[\w-]{8,}={0,2}\.[\w-]{60,}|\bsha256~[\w-]{30,}|\b[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk\b|\boy2[a-z0-9]{43}\b|\bcio[A-Za-z0-9]{32}\b|\bAQVN[\w-]{30,}|\bEAA[A-Z][A-Za-z0-9]{50,}|\bamzn\.mws\.[0-9a-f-]{36}|\bEZ[AT]K[A-Za-z0-9]{40,}|\by0_[\w-]{30,}",
        "API token",
    ),
    // Shadow file and password file hashes: crypt(5).
    plain(
        r"\$(?:(?:2[abxy]|[156y])\$|argon2|scrypt|pbkdf2)",
        r"\$(?:2[abxy]\$\d\d\$[./A-Za-z0-9]{20,}|[156y]\$[^\s:\x22']{16,}|(?:argon2(?:id|i|d)|scrypt|pbkdf2[\w-]*)\$[^\s:\x22']{16,})",
        "password hash",
    ),
    // RFC 3986 userinfo. The first takes in what should have been escaped: a colon, a slash.
    with(
        Also::NotPort,
        r"://[^\s\x22'<>]*@",
        r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s:/@\x22'<>]*:([^\s@\x22'<>\\]+)@",
        "password",
    ),
    plain(r"://[^\s\x22'<>]*@", r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s:/@\x22'<>?#]*:([^\s/\x22'<>?#]+)@", "password"),
    with(
        Also::Userinfo,
        r"://[^\s\x22'<>]*@",
        r"\b[A-Za-z][A-Za-z0-9+.-]*://([^\s:/@\x22'<>?#]{12,})(?::x-oauth-basic)?@",
        "token",
    ),
    // Go's MySQL data source name, Oracle's easy connect.
    plain(r"@(?:tcp|unix|//)", r"\b[\w.-]+[:/]([^\s@\x22']+(?:@[^\s@\x22']+)?)@(?:(?:tcp|unix)\(|//)", "password"),
    with(Also::Random, r":[^\s:@/]+@", r"\b[A-Za-z][\w.-]*:([^\s:@/\x22'<>]{8,})@[A-Za-z0-9]", "password"),
    // CREATE USER of PostgreSQL, MySQL, Oracle, SQL Server.
    plain(
        r"(?i-u:identified)",
        r#"(?i)\bidentified\s+(?:with\s+\S+\s+)?(?:by|as)\s+(?:password\s+|values\s+)?(?:'([^'\n]+)'|\\?"([^"\n]+?)\\?"|([^\s;'"]+))"#,
        "secret",
    ),
    // RFC 4954, RFC 3501, RFC 959, Redis and what its log shows.
    with(
        Also::Mixed,
        r"AUTH ",
        r"\bAUTH (?:PLAIN|LOGIN|XOAUTH2|CRAM-MD5|NTLM) ([A-Za-z0-9+/]{8,}={0,2})",
        "credential",
    ),
    with(Also::Mixed, r"LOGIN ", r#"\b[A-Za-z]+\d+ LOGIN \S+ ("[^"\n]+"|\S{4,})"#, "secret"),
    plain(r" auth ", r"\b(?:stats|proxy|basic|http|user) auth\s+[\w.-]+:(\S{3,})", "secret"),
    with(Also::Unnamed, r"PASS ", r"(?m)(?:^|[>:] ?)PASS (\S{4,})", "secret"),
    plain(r"requirepass|masterauth", r#"\b(?:requirepass|masterauth)\\?["']?\s+\\?["']?([^\s"'\\]{3,})"#, "secret"),
    with(Also::MixedUnnamed, r"AUTH", r#""?\bAUTH"?\s+(?:"\w+"\s+)?"?([^\s"']{6,})"#, "secret"),
    plain(r"ConvertTo-SecureString", r#"ConvertTo-SecureString\s+(?:-String\s+)?["']([^"'\n]+)"#, "secret"),
    plain(r"AAAA[\w-]{7}:", r"\bAAAA[\w-]{7}:[\w-]{60,}", "Firebase key"),
    // netrc(5), pgpass.
    plain(r"(?i-u:login\s)", r"(?i)\blogin\s+\S+\s+password\s+(\S{3,})", "secret"),
    plain(r":(?:\d{4,5}|\*):[\w*.-]+:", r"(?m)^[\w.*-]+:(?:\d{4,5}|\*):[\w*.-]+:[\w*.-]+:(\S{3,})$", "secret"),
    // RFC 6750, RFC 7617.
    plain(r"(?i-u:bearer)", r"(?i)\bbearer[\s:=]+[\x22']?([A-Za-z0-9._~+/=-]{12,})", BEARER),
    with(Also::Pair, r"(?i-u:basic)", r"(?i)\bbasic\s+([A-Za-z0-9+/_-]{6,}={0,2})", "credential"),
    // Commands that take a password without a telling name; curl(1), mysql(1), sshpass(1), redis-cli, ldapsearch(1).
    plain(
        r"\b(?:sshpass|mysql|mariadb|docker|podman|nerdctl|crane|helm|oras|skopeo|az|mongo|cf|oc|ldap|redis-cli|7z|unzip|zip)[^\n]*\s-[pPwa-]",
        r#"(?:\bsshpass\b[^\n|;&]*?\s-p\s*|\b(?:mysql\w*|mariadb[\w-]*)\b[^\n|;&]*?\s-p|\b(?:docker|podman|nerdctl|crane|helm|oras|skopeo|az|cf|oc)\b[^\n|;&]*?\slogin\b[^\n|;&]*?\s-p[ =]|\bmongo\w*\b[^\n|;&]*?\s-p[ =]|\bldap\w+\b[^\n|;&]*?\s-w\s*|\bredis-cli\b[^\n|;&]*?\s(?:-a|--pass)[ =]|\b(?:7z|unzip|zip)\b[^\n|;&]*?\s-[pP]\s*)(?:"([^"\n]{3,})"|'([^'\n]{3,})'|["']?([^\s"'=/-][^\s"']{2,}))"#,
        "secret",
    ),
    plain(
        r"\b(?:curl|https?|xh|wget)\b[^\n]*\s-[uUap-]|smbclient|\bpass:|-storepass|-keypass",
        r#"(?:\b(?:curl|https?|xh|wget)\b[^\n|;&]*?\s(?:-u|--user|-a|--auth|--proxy-user|-U)[ =]?["']?[^\s:"']{0,64}:|\bsmbclient\b[^\n|;&]*?\s-U[ =]?["']?[^\s%"']{1,64}%|\bpass:|\b(?:-storepass|-keypass)\s+)([^\s"'/][^\s"']{2,})"#,
        "secret",
    ),
];

/// In the order of the gates. A pattern that does not compile is a bug that the tests find.
static COMPILED: LazyLock<Vec<Option<Regex>>> =
    LazyLock::new(|| FORMATS.iter().map(|format| compiled(format.pattern)).collect());

/// Most texts have none of the literals: one quick pass finds that out, a second one which formats are
/// worth a search.
static ANY_GATE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let gates: Vec<String> = FORMATS.iter().map(|format| format!("(?:{})", format.gate)).collect();
    RegexBuilder::new(&ascii(&gates.join("|"))).dfa_size_limit(CACHE).build().ok()
});
static GATES: LazyLock<Option<RegexSet>> = LazyLock::new(|| {
    RegexSetBuilder::new(FORMATS.iter().map(|format| ascii(format.gate))).dfa_size_limit(CACHE).build().ok()
});

/// Patterns that do not compile.
#[cfg(test)]
pub fn broken() -> Vec<&'static str> {
    let all = FORMATS.iter().flat_map(|format| [format.gate, format.pattern]);
    all.filter(|pattern| compiled(pattern).is_none() || GATES.is_none()).collect()
}

pub fn marks() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().map(|format| format.mark)
}

pub fn find(text: &str, found: &mut Vec<Found>) {
    let (Some(any), Some(gates)) = (ANY_GATE.as_ref(), GATES.as_ref()) else { return };
    if !any.is_match(text) {
        return;
    }
    for at in gates.matches(text) {
        let (Some(Some(pattern)), Some(format)) = (COMPILED.get(at), FORMATS.get(at)) else { continue };
        for captures in pattern.captures_iter(text) {
            let Some(secret) = captures.iter().skip(1).flatten().next().or_else(|| captures.get(0)) else { continue };
            let holds = match format.also {
                Also::Nothing => !shape::is_placeholder(secret.as_str()),
                Also::Mixed => shape::is_mixed(secret.as_str()),
                Also::Random => shape::is_random(secret.as_str(), 8),
                Also::MixedUnnamed => shape::is_mixed(secret.as_str()) && !shape::is_name(secret.as_str()),
                Also::Unnamed => !shape::is_placeholder(secret.as_str()) && !shape::is_name(secret.as_str()),
                Also::NotPort => {
                    let rest = secret.as_str().trim_start_matches(|char: char| char.is_ascii_digit());
                    let port = rest.len() < secret.len() && rest.starts_with(['/', '?', '#']);
                    !(port || shape::is_placeholder(secret.as_str()))
                }
                Also::Userinfo => shape::is_random(secret.as_str(), 12) || shape::is_hex(secret.as_str(), 16),
                Also::Opaque => shape::decoded(secret.as_str()).is_none(),
                Also::Pair => shape::decoded(secret.as_str()).is_some_and(|text| text.contains(':')),
            };
            if holds {
                found.push(Found { start: secret.start(), end: secret.end(), mark: format.mark });
            }
        }
    }
}
