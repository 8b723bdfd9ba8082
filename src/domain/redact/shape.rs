//! What a token looks like: drawn by chance, or one of the names an on-call engineer needs.
//!
//! Image digests, commits, trace ids, UUIDs, pod names, versions, times and paths must stay readable.
//! Bare hexadecimal is a digest or a trace id until a word beside it says otherwise.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::Regex;

use super::compiled;

/// Stands for a secret, or for the lack of one.
pub fn is_placeholder(value: &str) -> bool {
    static PLACEHOLDER: LazyLock<Option<Regex>> = LazyLock::new(|| {
        compiled(concat!(
            r"(?i)^(?:",
            r"true|false|null|nil|none|undefined|n/?a|yes|no|on|off|empty|unset|default|",
            // Already hidden, by us or by whoever wrote the line.
            r"\W*|\x01.*|[*•x.#-]{3,}|.{0,4}\*{3,}.{0,4}|[<\[({]*(?:redacted|filtered|masked|hidden|removed|omitted|secret|sensitive)[>\])}]*|",
            // A template, a variable, a format: gitleaks' allow list.
            r"\$\{?[a-z_][\w.:-]*\}?|\$\(.*\)?|\{\{.*|\$\{\{?.*|%[a-z_]*%?|%\(\w+\)s?|\{[\w.]*\}|<[^>]*>?|@[a-z_]+@|&?\w*\.?(?:env|environ|process\.env|os\.environ|getenv|secrets|vars)[.(\[].*|",
            r"change[-_]?me|your[-_ ]?\w+.*|example|dummy|placeholder|to-?do|tbd|\.\.\.|…",
            r")$"
        ))
    });
    PLACEHOLDER.as_ref().is_some_and(|placeholder| placeholder.is_match(value))
}

/// Letters and digits (or signs) mixed as in a password or a key, and none of the harmless shapes.
pub fn is_random(token: &str, at_least: usize) -> bool {
    if token.len() < at_least || !token.is_ascii() || is_harmless(token) {
        return false;
    }
    let bare = without_names(token);
    let of = Classes::of(&bare);
    let letters = of.lower + of.upper;
    let mixed = letters >= 2 && (of.digits > 0 || of.signs > 0);
    mixed && (of.lower > 0 && of.upper > 0 && of.digits > 0 || of.digits > 0 && of.signs > 0 || of.turns >= 4)
}

/// So much mixed that no word beside it is needed: at least 24 characters of both cases and digits.
///
/// `turns` counts changes between lower case, upper case and digits, a capital before its word not
/// counted. In Base64 of chance 0.43 of the neighbours turn; in names with capitals 0.1.
pub fn is_gibberish(token: &str) -> bool {
    let of = Classes::of(token);
    if token.len() < 24 || of.lower == 0 || of.upper == 0 || of.digits < 2 || is_harmless(token) {
        return false;
    }
    of.turns * 4 >= token.len() || of.numbers >= 3 && of.signs <= 2
}

/// Behind a known prefix: not a name.
pub fn is_mixed(token: &str) -> bool {
    let of = Classes::of(token);
    of.digits > 0 || of.upper >= 3 && of.lower >= 3 && of.turns * 4 >= token.len()
}

/// Of 16 digits or more; what is bare and shorter is a short commit.
pub fn is_hex(token: &str, at_least: usize) -> bool {
    token.len() >= at_least
        && token.bytes().all(|byte| byte.is_ascii_hexdigit())
        && token.bytes().any(|byte| byte.is_ascii_digit())
        && token.bytes().any(|byte| byte.is_ascii_alphabetic())
}

pub fn is_uuid(token: &str) -> bool {
    token.len() == 36
        && token.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Base64 of text that can be read.
pub fn decoded(token: &str) -> Option<String> {
    const EITHER: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let standard = token.replace('-', "+").replace('_', "/");
    let text = String::from_utf8(EITHER.decode(standard.trim_end_matches('=')).ok()?).ok()?;
    let readable = text.chars().all(|char| !char.is_control() || matches!(char, '\n' | '\r' | '\t'));
    (readable && !text.is_empty()).then_some(text)
}

/// A name, number, time, version, digest, path or address.
pub fn is_harmless(token: &str) -> bool {
    static HARMLESS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        compiled(concat!(
            r"(?i)^(?:",
            r"[\d.,:/+-]+(?:ns|us|µs|ms|s|m|h|d|w|[kmgtp]i?b?|%|x)?|(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h|d))+|",
            // RFC 3339, and names made of it.
            r"\d{4}-?\d\d-?\d\d[t_ -]?[\d:.,]*(?:z|[+-]\d\d:?\d\d)?|",
            r"v?\d+(?:\.\d+)+(?:[-+._~][\w.+~-]*)?|v\d+(?:alpha|beta|rc)?\d*|",
            r"0x[0-9a-f]+|(?:sha\d*|md5|sha\d*sum)[:=-][0-9a-z+/=]+|",
            r"(?:https?|ftp|file|s3|gs|tcp|udp|grpc|amqps?|redis|kafka)://\S*|[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
            r")$"
        ))
    });
    token.bytes().all(|byte| byte.is_ascii_hexdigit())
        || is_uuid(token)
        || is_slug(token)
        || HARMLESS.as_ref().is_some_and(|harmless| harmless.is_match(token))
}

/// The name of a thing: more than one word, or harmless in another way.
pub fn is_name(token: &str) -> bool {
    // One run of letters and digits behind a prefix is a token.
    let joined = token.contains(['-', '_', '.', '/']);
    let parts = || token.split(['-', '_', '.', '/']);
    joined && is_harmless(token) && parts().all(|part| part.len() < 16 || !is_hex(part, 16)) && parts().any(is_word)
}

fn is_word(part: &str) -> bool {
    part.len() >= 3 && part.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Words, numbers and the short hashes of workloads, joined: `checkout-7d9f8b6c5-x2k4p`,
/// `kube-system/coredns`, `jvm_memory_used_bytes`, `com.acme.Cart`.
fn is_slug(token: &str) -> bool {
    let mut parts = 0;
    // Signs of passwords join names only within longer paths: `com.acme.Cart$Item#pay`.
    let path = token.contains(['.', '/']);
    let joins =
        |char| matches!(char, '-' | '.' | '_' | '/' | ':' | '@') || path && matches!(char, '+' | '$' | '#' | '~');
    let wordlike = token.split(joins).all(|part| {
        parts += 1;
        let of = Classes::of(part);
        of.signs == 0
            && (of.digits == 0 && (of.turns * 4 <= part.len() || part.len() < 4)
                || of.lower + of.upper == 0
                || of.upper == 0 && part.len() <= 10
                || of.lower == 0 && part.len() <= 6
                || of.numbers == 1 && of.turns <= 2 && part.len() <= 24 && parts > 1 && of.upper <= 1
                || is_hex(part, 12))
    });
    wordlike && (parts > 1 || Classes::of(token).digits == 0)
}

#[derive(Default)]
struct Classes {
    lower: usize,
    upper: usize,
    digits: usize,
    /// Runs of digits.
    numbers: usize,
    signs: usize,
    turns: usize,
}

impl Classes {
    fn of(token: &str) -> Self {
        let mut of = Self::default();
        let mut before = 0;
        for byte in token.bytes() {
            let class = match byte {
                b'a'..=b'z' => 1,
                b'A'..=b'Z' => 2,
                b'0'..=b'9' => 3,
                _ => 4,
            };
            match class {
                1 => of.lower += 1,
                2 => of.upper += 1,
                3 => of.digits += 1,
                _ => of.signs += 1,
            }
            of.numbers += usize::from(class == 3 && before != 3);
            of.turns += usize::from(before != 0 && class != before && (before, class) != (2, 1));
            before = class;
        }
        of
    }
}

/// Names with digits in them that are part of longer names.
fn without_names(token: &str) -> String {
    static NAMES: LazyLock<Option<Regex>> = LazyLock::new(|| {
        compiled(
            r"(?i)oauth2?|x509|ed25519|curve25519|base64|base32|http[23]|sha-?(?:1|2|3|224|256|384|512)|md5|s3|ec2|k8s|log4j2?|utf-?(?:8|16)|ipv[46]|[hrep]s(?:256|384|512)|p(?:256|384|521)|aes-?(?:128|192|256)|rsa-?(?:2048|4096)|i18n|l10n|x86|amd64|arm64|win32|v\d\b|web3|pkcs(?:1|7|8|12)|sqlite3|python[23]|boto3|neo4j|h2|l[47]|p9\d|2fa|mp3|r53|route53",
        )
    });
    NAMES.as_ref().map_or_else(|| token.to_owned(), |names| names.replace_all(token, "").into_owned())
}
