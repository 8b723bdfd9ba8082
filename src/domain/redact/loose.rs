//! Long tokens without a known form and without a telling key: so mixed that they were drawn by chance.

use super::{Found, shape};

pub const MARK: &str = "high-entropy token";

/// Shorter ones are cluster ids, request ids, ReplicaSet hashes.
const AT_LEAST: usize = 24;

pub fn find(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'_' | b'-' | b'=');
    let mut at = 0;
    while at + AT_LEAST <= bytes.len() {
        // The last byte that a token from here must have; what is before a gap need not be looked at.
        match bytes[at..at + AT_LEAST].iter().rposition(|byte| !part(*byte)) {
            Some(gap) => at += gap + 1,
            None => {
                let end = at + bytes[at..].iter().take_while(|byte| part(**byte)).count();
                judge(text, at, end, found);
                at = end + 1;
            }
        }
    }
}

fn judge(text: &str, start: usize, end: usize, found: &mut Vec<Found>) {
    let Some(token) = text.get(start..end) else { return };
    let token = token.trim_end_matches(['-', '_', '/']);
    // A key and its value, when the sign is not Base64's padding.
    if let Some(sign) = token.trim_end_matches('=').rfind('=') {
        judge(text, start + sign + 1, start + token.len(), found);
        return;
    }
    let token = token.trim_start_matches(['-', '/', '=', '+']);
    let start = start + text.get(start..end).and_then(|whole| whole.find(token)).unwrap_or_default();
    if token.len() < AT_LEAST || is_identified(text, start) {
        return;
    }
    let secret = match shape::decoded(token).filter(|_| token.len() >= 16) {
        // Configuration in Base64 is as harmless as what it says.
        Some(plain) => is_secret_text(&plain),
        None if token.contains('/') && token.split('/').filter(|part| !part.is_empty()).count() >= 3 => {
            let mut at = start;
            for part in token.split('/') {
                if shape::is_gibberish(part) {
                    found.push(Found { start: at, end: at + part.len(), mark: MARK });
                }
                at += part.len() + 1;
            }
            shape::is_gibberish(token) && !token.split('/').any(shape::is_harmless)
        }
        None => shape::is_gibberish(token),
    };
    if secret {
        found.push(Found { start, end: start + token.len(), mark: MARK });
    }
}

/// After a digest's, a fingerprint's or an identifier's name, or a public key's type.
fn is_identified(text: &str, start: usize) -> bool {
    let bytes = &text.as_bytes()[..start];
    let name = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'_' | b'-' | b'.' | b' ' | b':' | b'=' | b'"' | b'\'' | b'\\' | b'[' | b'@' | b'/' | b'+'
            )
    };
    let from = start - bytes.iter().rev().take(28).take_while(|byte| name(byte)).count();
    let Some(before) = text.get(from..start) else { return false };
    let before = before.trim_end_matches([' ', ':', '=', '"', '\'', '\\', '[', '@', '/', '+']).to_ascii_lowercase();
    const NAMES: &[&str] = &[
        "id",
        "ids",
        "etag",
        "digest",
        "hash",
        "checksum",
        "fingerprint",
        "integrity",
        "revision",
        "cursor",
        "commit",
        "sha256",
        "sha384",
        "sha512",
        "sha1",
        "md5",
        "sha256-",
        "sha384-",
        "sha512-",
        "h1",
        "ssh-rsa",
        "ssh-ed25519",
        "ssh-dss",
        "nistp256",
        "nistp384",
        "nistp521",
        "trace",
        "span",
        "uid",
        "cabundle",
        "certificate",
        "cert",
        "ca.crt",
        "tls.crt",
        "certificate-authority-data",
        "client-certificate-data",
    ];
    NAMES.iter().any(|name| before.ends_with(name))
}

/// What Base64 hid: a token's header or claims (RFC 7515, RFC 7519), `user:password`, or a text with
/// secrets in it.
fn is_secret_text(plain: &str) -> bool {
    const CLAIMS: &[&str] = &["\"alg\"", "\"iss\"", "\"sub\"", "\"exp\"", "\"iat\"", "\"aud\"", "\"jti\"", "\"kid\""];
    if plain.starts_with('{') && CLAIMS.iter().any(|claim| plain.contains(claim)) {
        return true;
    }
    let mut found = vec![];
    super::formats::find(plain, &mut found);
    super::keyed::find(plain, &mut found);
    !found.is_empty() || shape::is_gibberish(plain)
}
