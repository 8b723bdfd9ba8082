//! Values that their key gives away, in whatever syntax the two are joined.
//!
//! A word of `words` is found first; the name around it decides; then the text after it is read as
//! an assignment (env, INI, TOML, YAML, JSON also escaped, URL query, connection string, header, flag,
//! XML element and attribute, SQL), as a pair of `name` and `value` fields, or as prose.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::words::{self, Sense};
use super::{Found, compiled, shape, value};

pub const SECRET: &str = "secret";
pub const CREDENTIAL: &str = "credential";
pub const COOKIE: &str = "cookie";

/// Between a key and its value.
static JOINED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compiled(concat!(
        r#"^(?:\\*["'`\]*)]|&quot;|&\#3[49];|%22|\\+u0022){0,6}(?:[ \t]*\([^()\n]{0,30}\))?[ \t]*(?:\\?\r?\n[ \t]*)?"#,
        r"(?P<sign>=>|:=|={1,3}|::?|->|%3[AaDd])(?:[*_]{1,3}[ \t]|%20|\+)?",
        r"[ \t]*(?P<next>\\?\r?\n[ \t+]*(?:[-+][ \t]+)?)?",
        r#"(?:!!?[a-z]+[ \t]+)?(?:[\[({][ \t]*)?(?:[brfu]{0,2}(?P<quote>\\*["'`]+|&quot;|&\#3[49];|%22|\\+u0022))?"#
    ))
});
/// `--password x`
static FLAG: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r#"^[ \t]+(?P<quote>\\*["']+)?"#));
/// `<password>x</password>`, `<property name="password">x`, `<password value="x"`
static ELEMENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compiled(r#"^(?:["'][^<>\n]*?|(?:\s[^<>\n]*?)?)(?:>\s*|\s[Vv]alue=)(?P<quote>["']|<!\[CDATA\[)?"#)
});
/// The rest of `name: DB_PASSWORD`, `value: x`; the name was read up to its end.
static PAIR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compiled(concat!(
        r#"^(?:\\*["'`]){0,2}[ \t]*(?:,|;|\\n|\r?\n|[ \t])[ \t\r\n+,-]*(?:\\*["'`])?(?i:value|val|content|data|default)"#,
        r#"(?:\\*["'`])?[ \t]*[:=][ \t]*(?P<quote>\\*["'`]+)?"#
    ))
});
static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compiled(
        r#"(?i)(?:name|key|field|variable|var|env|param|parameter|header|k)(?:\\*["'`])?[ \t]*[:=][ \t]*(?:\\*["'`])?$"#,
    )
});
/// The flattened form of a changed variable.
static CHANGED: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r"^/value:[ \t]+(?P<all>[^\n]+)"));
/// `set("password", "x")`
static ARGUMENT: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r#"^\\*["'`][ \t]*,[ \t]*(?P<quote>\\*["'`])"#));
/// `| password | x |`
static CELL: LazyLock<Option<Regex>> =
    LazyLock::new(|| compiled(r#"^["'`*]{0,3}[ \t]*\|[ \t]*(?P<all>[^\s|]{4,})[ \t]*\|"#));
/// YAML 1.2, chapter 8: block scalars.
static BLOCK: LazyLock<Option<Regex>> =
    LazyLock::new(|| compiled(r#"^["']?:[ \t]*(?:!!?\w+[ \t]+)?[|>][+-]?\d?[+-]?[ \t]*(?:#[^\n]*)?\r?\n"#));
static SQL_AFTER: LazyLock<Option<Regex>> =
    LazyLock::new(|| compiled(r#"(?i)^(?:\s*\(\s*|\s+(?:for\s+\S+\s*=?\s*|to\s+|=\s*)?)(?P<quote>\\?['"])"#));

pub fn find(text: &str, found: &mut Vec<Found>) {
    let Some(anywhere) = words::ANYWHERE.as_ref() else { return };
    let (mut read, mut crumbs, mut secrets) = (0, 0, false);
    let mut at = 0;
    while let Some(word) = anywhere.find_at(text, at) {
        if words::is_within(text, word.start(), word.end()) {
            // Another may begin in it: `rootpw` has an `otp`.
            at = word.start() + 1;
            continue;
        }
        at = word.end();
        if word.start() < read {
            continue;
        }
        let Some(key) = Key::around(text, word.start(), word.end()) else { continue };
        read = key.end;
        secrets |= key.sense == Sense::Secret;
        let before = found.len();
        match key.sense {
            Sense::Header => header(text, &key, found),
            Sense::Cookie => crumbs = cookies(text, &key, crumbs, found),
            Sense::Hint | Sense::Secret | Sense::Password => {
                if !assigned(text, &key, found) && !paired(text, &key, found) {
                    value::told(text, &key, found);
                }
            }
        }
        for secret in found.iter_mut().skip(before) {
            secret.end = value::whole(text, secret.start, secret.end);
        }
        // A word within a value is no key.
        if let Some(last) = found.get(before..).and_then(<[Found]>::last) {
            read = read.max(last.end);
        }
    }
    if secrets {
        manifests(text, found);
    }
}

/// The name around a word.
pub struct Key {
    pub start: usize,
    pub end: usize,
    pub sense: Sense,
    /// Its word is of a script without spaces: the value may touch it.
    pub touches: bool,
}

impl Key {
    fn around(text: &str, start: usize, end: usize) -> Option<Self> {
        let word = text.get(start..end)?;
        if let Some(sense) = words::elsewhere(word) {
            let rest = text.get(end..)?;
            let ending = rest.find(|char: char| !char.is_alphabetic() || char.is_ascii() || is_ideographic(char));
            let end = end + if word.chars().any(is_ideographic) { 0 } else { ending.unwrap_or(rest.len()) };
            return Some(Key { start, end, sense, touches: word.chars().any(is_ideographic) });
        }
        let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let bytes = text.as_bytes();
        let left = bytes.get(..start)?.iter().rev().take_while(|byte| part(byte)).take(80).count();
        let right = bytes.get(end..)?.iter().take_while(|byte| part(byte)).take(80).count();
        let name = text.get(start - left..end + right)?;
        // `token.` ends a sentence; `->` after a name is no part of it.
        let name = name.trim_end_matches(['.', '-']);
        let words = name.split("--").last().map_or(name, |last| if last.is_empty() { name } else { last });
        // A host's name in an address.
        if text.get(..start - left)?.ends_with("//") {
            return None;
        }
        let mut sense = words::sense(words)?;
        let (start, end) = (start - left, start - left + name.len());
        // `api key`, `secret key` in prose.
        if sense == Sense::Hint && words.eq_ignore_ascii_case("key") {
            let before = text.get(..start)?.trim_end_matches([' ', '-']);
            let length = before.bytes().rev().take_while(u8::is_ascii_alphabetic).count();
            if before.len() < start && words::is_key_of(&before.get(before.len() - length..)?.to_ascii_lowercase()) {
                sense = Sense::Secret;
            }
        }
        Some(Key { start, end, sense, touches: false })
    }
}

pub fn is_ideographic(char: char) -> bool {
    matches!(char, '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}' | '\u{0E00}'..='\u{0E7F}')
}

fn after<'t>(regex: &LazyLock<Option<Regex>>, text: &'t str, at: usize) -> Option<Captures<'t>> {
    regex.as_ref()?.captures(value::near(text, at, value::REACH))
}

fn end_of(captures: &Captures<'_>) -> usize {
    captures.get(0).map_or(0, |all| all.end())
}

fn quote<'t>(captures: &Captures<'t>) -> Option<&'t str> {
    captures.name("quote").map(|quote| quote.as_str())
}

fn assigned(text: &str, key: &Key, found: &mut Vec<Found>) -> bool {
    let push = |start: usize, end: usize, found: &mut Vec<Found>| found.push(Found { start, end, mark: SECRET });
    if let Some(block) = after(&BLOCK, text, key.end) {
        return match value::block(text, key.start, key.end + end_of(&block)) {
            Some((start, end)) if key.sense > Sense::Hint || shape::is_random(text[start..end].trim(), 16) => {
                push(start, end, found);
                true
            }
            _ => false,
        };
    }
    if text[key.end..].starts_with("/value:") {
        if key.sense > Sense::Hint
            && let Some(all) = after(&CHANGED, text, key.end).as_ref().and_then(|changed| changed.name("all"))
            && !text[key.end + all.start()..].starts_with(super::shadow::BLANK)
        {
            push(key.end + all.start(), key.end + all.end(), found);
        }
        return true;
    }
    // Of a line without an end only what is near.
    let near = (key.start.saturating_sub(256)..=key.start).find(|at| text.is_char_boundary(*at)).unwrap_or(key.start);
    let line = text[near..key.start].rsplit('\n').next().unwrap_or_default();
    if line.contains('<')
        && let Some(element) =
            ELEMENT.as_ref().and_then(|element| element.captures(value::near(text, key.end, value::WORD)))
    {
        let start = key.end + end_of(&element);
        if text[start..].starts_with(super::shadow::BLANK) {
            return true;
        }
        let rest = value::near(text, start, value::REACH);
        let end = match quote(&element) {
            Some("<![CDATA[") => rest.find("]]>"),
            Some(quote) => rest.find(quote),
            None => rest.find('<'),
        };
        // Cut, or longer than is read: what opened here is a value.
        let end = end.or_else(|| quote(&element).map(|_| value::bare(rest, value::Written::Quoted)));
        if let Some(length) = end.filter(|length| *length > 0)
            && value::holds(&text[start..start + length], key.sense, value::Written::Quoted)
        {
            push(start, start + length, found);
            return true;
        }
    }
    if let Some(argument) = after(&ARGUMENT, text, key.end)
        && let Some((start, end)) =
            value::read(text, key.end + end_of(&argument), quote(&argument), value::Written::Quoted)
        && value::holds(&text[start..end], key.sense, value::Written::Quoted)
        && (line.trim_end_matches(['"', '\'', '`', '\\']).ends_with('(') || shape::is_random(&text[start..end], 8))
    {
        push(start, end, found);
        return true;
    }
    if line.trim_end_matches(['*', '`', ' ']).ends_with('|')
        && let Some(cell) = after(&CELL, text, key.end).as_ref().and_then(|cell| cell.name("all"))
        && value::holds(cell.as_str(), key.sense, value::Written::Colon)
    {
        push(key.end + cell.start(), key.end + cell.end(), found);
        return true;
    }
    let flag = text.get(key.start..key.end).is_some_and(|name| name.starts_with('-'))
        || ["ENV ", "setenv "].iter().any(|command| line.ends_with(command));
    if flag && let Some(next) = after(&FLAG, text, key.end) {
        let start = key.end + end_of(&next);
        if let Some((start, end)) = value::read(text, start, quote(&next), value::Written::Flag)
            && !text[start..end].starts_with('-')
            && value::holds(&text[start..end], key.sense, value::Written::Flag)
        {
            push(start, end, found);
            return true;
        }
    }
    if key.sense == Sense::Password
        && let Some(sql) = after(&SQL_AFTER, text, key.end)
        && let Some((start, end)) = value::read(text, key.end + end_of(&sql), quote(&sql), value::Written::Quoted)
        && value::holds(&text[start..end], key.sense, value::Written::Quoted)
    {
        push(start, end, found);
        return true;
    }
    let Some(joined) = after(&JOINED, text, key.end) else { return false };
    let start = key.end + end_of(&joined);
    if text[start..].starts_with(super::shadow::BLANK) {
        return true;
    }
    if let Some(sign) = joined.name("sign").filter(|sign| matches!(sign.as_str(), ":" | "="))
        && let Some(members) = members(text, key, key.end + sign.end())
    {
        if let Some((start, end)) = member(text, &members, key.sense) {
            push(start, end, found);
        }
        return true;
    }
    let written = match (quote(&joined), joined.name("next"), &joined["sign"]) {
        (Some(_), _, _) => value::Written::Quoted,
        (None, Some(next), _) => value::Written::NextLine {
            deeper: next.as_str().starts_with('\\') || value::deeper(text, key.start, start),
        },
        (None, None, sign) if sign.starts_with('%') => value::Written::Encoded,
        (None, None, "=" | "==" | "===" | ":=" | "=>") => value::Written::Sign,
        (None, None, _) => value::Written::Colon,
    };
    let Some((start, end)) = value::read(text, start, quote(&joined), written) else { return false };
    if !value::holds(&text[start..end], key.sense, written)
        || written == value::Written::Colon && is_outcome(text, key, line, &text[start..end])
    {
        return false;
    }
    push(start, end, found);
    if let Some((start, end)) = value::replaced_by(text, end) {
        push(start, end, found);
    }
    true
}

/// `smoke tests pass: checkout`, `--- PASS: TestCart`: what passed, not what lets pass.
fn is_outcome(text: &str, key: &Key, line: &str, value: &str) -> bool {
    let name = text.get(key.start..key.end).unwrap_or_default();
    let told = name == "PASS" || line.trim_end().ends_with(|char: char| char.is_ascii_alphanumeric());
    name.eq_ignore_ascii_case("pass")
        && told
        && (shape::is_harmless(value) || value.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// Where the members of the mapping are that a key has instead of a value: `secret:\n  secretName: x`,
/// `"secret": {"name": "x"}`. Their keys are no secrets, and most of their values name one.
fn members(text: &str, key: &Key, at: usize) -> Option<std::ops::Range<usize>> {
    static FIRST: LazyLock<Option<Regex>> = LazyLock::new(|| {
        compiled(concat!(
            r"^[ \t]*(?:(?P<brace>\[?\{)\s*|\r?\n[ \t+]*(?:[-+][ \t]+)?)",
            r#"(?:[A-Za-z_][\w./-]*[ \t]*:(?:\s|$)|\\*["'][A-Za-z_][\w./-]*\\*["'][ \t]*:)"#
        ))
    });
    let body = value::near(text, at, value::WORD);
    let first = FIRST.as_ref()?.captures(body)?;
    let length = match first.name("brace") {
        Some(_) => body.find('}').unwrap_or(body.len()),
        None => {
            let outer = value::indent(text, key.start);
            let mut lines = body.split_inclusive('\n');
            let mut length = lines.next().map_or(0, str::len);
            for line in lines {
                let inner = value::indent(line, line.trim_end().len());
                let item = inner == outer && line[inner..].starts_with("- ");
                if !line.trim().is_empty() && inner <= outer && !item {
                    break;
                }
                length += line.len();
            }
            length
        }
    };
    Some(at..at + length)
}

/// The value itself among the members of its key: `password:\n  value: x`.
fn member(text: &str, members: &std::ops::Range<usize>, sense: Sense) -> Option<(usize, usize)> {
    static VALUE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        compiled(concat!(
            r#"(?i)[\s{,"'-](?:value|val|content|data|default|stringValue)(?:\\*["'])?[ \t]*:"#,
            r#"[ \t]*(?:(?P<block>[|>][+-]?\d?[ \t]*\r?\n)|(?P<quote>\\*["']+)|[^\s\x01{\[&*#])"#
        ))
    });
    for value in VALUE.as_ref()?.captures_iter(text.get(members.clone())?) {
        let all = value.get(0)?;
        let (from, to) = (members.start + all.start(), members.start + all.end());
        let span = match (value.name("block"), quote(&value)) {
            (Some(_), _) => value::block(text, from + 1, to),
            (None, Some(quote)) => value::read(text, to, Some(quote), value::Written::Quoted),
            (None, None) => value::read(text, to - 1, None, value::Written::Sign),
        };
        if let Some((start, end)) =
            span.filter(|(start, end)| value::holds(&text[*start..*end], sense, value::Written::Sign))
        {
            return Some((start, end));
        }
    }
    None
}

/// `name: DB_PASSWORD` and `value: x`: whatever the value, as nobody puts a word of prose there.
fn paired(text: &str, key: &Key, found: &mut Vec<Found>) -> bool {
    let from = (key.start.saturating_sub(24)..=key.start).find(|at| text.is_char_boundary(*at)).unwrap_or(key.start);
    if key.sense == Sense::Hint || !NAMED.as_ref().is_some_and(|named| named.is_match(&text[from..key.start])) {
        return false;
    }
    let Some(pair) = after(&PAIR, text, key.end) else { return false };
    let start = key.end + end_of(&pair);
    let end = match quote(&pair) {
        Some(quote) => value::quoted(text, start, quote),
        None => {
            let rest = value::near(text, start, value::WORD);
            start + rest.find(['\n', ',', '}', '"']).unwrap_or(rest.len())
        }
    };
    if start < end && !shape::is_placeholder(text[start..end].trim()) {
        found.push(Found { start, end, mark: SECRET });
    }
    true
}

/// RFC 9110: a scheme and what it needs; some send the credential bare.
fn header(text: &str, key: &Key, found: &mut Vec<Found>) {
    static SCHEME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        compiled(
            r"^(?i:(?P<many>digest|oauth|hawk|hmac[\w-]*|aws4-[\w-]+|signature|sharedkey(?:lite)?|sharedaccesssignature|aws|mac|escher\S*|acs3\S*|tc3\S*)|bearer|basic|token|negotiate|ntlm|kerberos|api-?key|api-?token|key|geniekey|splunk|ssws|bot|access-token|user-token|dpop|gnap|vapid|privatetoken|zoho-oauthtoken|klaviyo-api-key|sentry|discogs|x-[\w-]+)(?:[ \t:=]+|%20)",
        )
    });
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r"^[A-Za-z][\w-]*[ \t]+"));
    let Some(joined) = after(&JOINED, text, key.end).or_else(|| after(&FLAG, text, key.end)) else { return };
    let start = key.end + end_of(&joined);
    let scheme = after(&SCHEME, text, start);
    let mut at = start + scheme.as_ref().map_or(0, end_of);
    let many = scheme.as_ref().is_some_and(|scheme| scheme.name("many").is_some());
    if scheme.is_none()
        && let Some(word) = after(&WORD, text, start)
    {
        let next = start + end_of(&word);
        if value::read(text, next, None, value::Written::Token)
            .is_some_and(|(start, end)| shape::is_random(&text[start..end], 8))
        {
            at = next;
        }
    }
    let end = if many {
        let rest = value::near(text, at, 4096);
        let ends = quote(&joined).and_then(|quote| rest.find(quote)).or_else(|| rest.find(['\n', '\'', '`']));
        at + ends.unwrap_or(rest.len())
    } else {
        match value::read(text, at, None, value::Written::Token) {
            Some((_, end)) => end,
            None => return,
        }
    };
    let Some(credential) = text.get(at..end) else { return };
    let sure = scheme.is_some() && credential.len() >= 4
        || credential.len() >= 6 && shape::is_random(credential, 6)
        || credential.len() >= 16
        || shape::is_hex(credential, 8);
    if sure && !shape::is_placeholder(credential) {
        found.push(Found { start: at, end, mark: CREDENTIAL });
    }
}

/// RFC 6265: `Cookie: a=1; b=2` and `Set-Cookie: a=1; Path=/`. What is short and plain stays.
/// Nothing before `from` is read again; returns where reading ended.
fn cookies(text: &str, key: &Key, from: usize, found: &mut Vec<Found>) -> usize {
    static CRUMB: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r#"([\w!#$%&*+.^|~-]+)=([^\s;,"'\\]+)"#));
    let (Some(joined), Some(crumb)) =
        (after(&JOINED, text, key.end).or_else(|| after(&FLAG, text, key.end)), CRUMB.as_ref())
    else {
        return from;
    };
    let start = from.max(key.end + end_of(&joined));
    let rest = value::near(text, start, 4096);
    let end = quote(&joined).and_then(|quote| rest.find(quote)).or_else(|| rest.find('\n')).unwrap_or(rest.len());
    for pair in crumb.captures_iter(&rest[..end]) {
        let (Some(name), Some(value)) = (pair.get(1), pair.get(2)) else { continue };
        if ["path", "domain", "expires", "max-age", "samesite", "version"]
            .iter()
            .any(|known| name.as_str().eq_ignore_ascii_case(known))
        {
            continue;
        }
        let telling = words::sense(name.as_str()).is_some() || name.as_str().to_ascii_lowercase().contains("sid");
        let secret = telling && value.len() >= 4 || value.len() >= 16 || shape::is_random(value.as_str(), 8);
        if secret && !shape::is_placeholder(value.as_str()) {
            found.push(Found { start: start + value.start(), end: start + value.end(), mark: COOKIE });
        }
    }
    start + end
}

/// Every value of a Kubernetes Secret, whatever its name (gitleaks' `kubernetes-secret-yaml`).
fn manifests(text: &str, found: &mut Vec<Found>) {
    static KIND: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r#"\bkind\\*["']?:\s*\\*["']?Secret\b"#));
    static DATA: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r"(?m)^([ \t+-]*)(?:data|stringData):[ \t]*\n"));
    static LINE: LazyLock<Option<Regex>> =
        LazyLock::new(|| compiled(r#"^([ \t+-]*)[\w."'-]+:[ \t]*["']?([^\s"'|>][^\n"']*)?"#));
    static OBJECT: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r#""(?:data|stringData)"\s*:\s*\{([^{}]*)\}"#));
    static MEMBER: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r#":\s*"([^"]+)""#));
    if !KIND.as_ref().is_some_and(|kind| kind.is_match(text)) {
        return;
    }
    let (Some(data), Some(line), Some(object), Some(member)) =
        (DATA.as_ref(), LINE.as_ref(), OBJECT.as_ref(), MEMBER.as_ref())
    else {
        return;
    };
    for block in data.captures_iter(text) {
        let indent = block[1].len();
        let mut at = block.get(0).map_or(0, |all| all.end());
        for row in text[at..].split_inclusive('\n') {
            let Some(parts) = line.captures(row).filter(|parts| parts[1].len() > indent) else { break };
            if let Some(value) = parts.get(2).filter(|value| !shape::is_placeholder(value.as_str())) {
                found.push(Found {
                    start: at + value.start(),
                    end: at + value.start() + value.as_str().trim_end().len(),
                    mark: SECRET,
                });
            }
            at += row.len();
        }
    }
    for block in object.captures_iter(text).filter_map(|block| block.get(1)) {
        for value in member.captures_iter(block.as_str()).filter_map(|member| member.get(1)) {
            if !shape::is_placeholder(value.as_str()) {
                found.push(Found {
                    start: block.start() + value.start(),
                    end: block.start() + value.end(),
                    mark: SECRET,
                });
            }
        }
    }
}
