//! The words that say that a secret follows, and the names in which they say nothing of the kind.
//!
//! Which names are harmless follows the allow list of gitleaks' `generic-api-key`.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use super::CACHE;
use super::shadow::fold;

/// How sure a key makes us of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sense {
    /// `key`, `auth`, `session`: a secret only if it looks like one.
    Hint,
    /// `token`, `api_key`
    Secret,
    /// `password`: whatever follows, even a word.
    Password,
    /// `Authorization`: a scheme may come first.
    Header,
    /// `Cookie`: pairs follow.
    Cookie,
}

/// Anywhere in a word of a name: `bindpassword`, `accesstoken`.
const STEMS: &[(&str, Sense)] = &[
    ("password", Sense::Password),
    ("passwd", Sense::Password),
    ("passphrase", Sense::Password),
    ("passcode", Sense::Password),
    ("passwort", Sense::Password),
    ("kennwort", Sense::Password),
    ("losungswort", Sense::Password),
    ("contrasen", Sense::Password),
    ("motdepasse", Sense::Password),
    ("senha", Sense::Password),
    ("palavrapasse", Sense::Password),
    ("parola", Sense::Password),
    ("wachtwoord", Sense::Password),
    ("haslo", Sense::Password),
    ("heslo", Sense::Password),
    ("losenord", Sense::Password),
    ("passord", Sense::Password),
    ("adgangskode", Sense::Password),
    ("salasana", Sense::Password),
    ("jelszo", Sense::Password),
    ("lozinka", Sense::Password),
    ("zaporka", Sense::Password),
    ("zugangsdaten", Sense::Secret),
    ("geheimnis", Sense::Secret),
    ("secreto", Sense::Secret),
    ("segreto", Sense::Secret),
    ("segredo", Sense::Secret),
    ("jeton", Sense::Secret),
    ("secret", Sense::Secret),
    ("token", Sense::Secret),
    ("credential", Sense::Secret),
    ("authorization", Sense::Header),
    ("cookie", Sense::Cookie),
];

/// A whole word of a name, or its end (`bindpw`, `pgpass`, `apikey`).
const WORDS: &[(&str, Sense)] = &[
    ("pass", Sense::Password),
    ("pw", Sense::Password),
    ("pwd", Sense::Password),
    ("psw", Sense::Password),
    ("psk", Sense::Password),
    ("sifre", Sense::Password),
    ("geslo", Sense::Password),
    ("clave", Sense::Password),
    ("sandi", Sense::Password),
    ("parol", Sense::Password),
    ("slaptazodis", Sense::Password),
    ("creds", Sense::Secret),
    ("cred", Sense::Secret),
    ("mnemonic", Sense::Secret),
    ("jwt", Sense::Secret),
    ("bearer", Sense::Secret),
    ("otp", Sense::Secret),
    ("totp", Sense::Secret),
    ("tok", Sense::Hint),
    ("key", Sense::Hint),
    ("keys", Sense::Hint),
    ("auth", Sense::Hint),
    ("sig", Sense::Hint),
    ("signature", Sense::Hint),
    ("sid", Sense::Hint),
    ("sess", Sense::Hint),
    ("session", Sense::Hint),
    ("sessid", Sense::Hint),
    ("sessionid", Sense::Hint),
    ("salt", Sense::Hint),
    ("webhook", Sense::Hint),
    ("schluessel", Sense::Hint),
    ("schlussel", Sense::Hint),
    ("chiave", Sense::Hint),
    ("chave", Sense::Hint),
    ("cle", Sense::Hint),
    ("klucz", Sense::Hint),
    ("license", Sense::Hint),
    ("licence", Sense::Hint),
    ("pin", Sense::Hint),
    ("code", Sense::Hint),
    ("dsn", Sense::Hint),
];

/// Words of other scripts, and of several words: no boundary is looked for.
const ELSEWHERE: &[(&str, Sense)] = &[
    ("passw0rd", Sense::Password),
    ("p4ssw0rd", Sense::Password),
    ("p4ssword", Sense::Password),
    ("p@ssword", Sense::Password),
    ("p@ssw0rd", Sense::Password),
    ("pa$$word", Sense::Password),
    ("pass word", Sense::Password),
    ("pass-word", Sense::Password),
    ("p a s s w o r d", Sense::Password),
    ("p.a.s.s.w.o.r.d", Sense::Password),
    ("p-a-s-s-w-o-r-d", Sense::Password),
    ("t o k e n", Sense::Secret),
    ("s e c r e t", Sense::Secret),
    ("mot de passe", Sense::Password),
    ("mots de passe", Sense::Password),
    ("palavra-passe", Sense::Password),
    ("palavra passe", Sense::Password),
    ("kata sandi", Sense::Password),
    ("mật khẩu", Sense::Password),
    ("пароль", Sense::Password),
    ("пароля", Sense::Password),
    ("паролем", Sense::Password),
    ("парола", Sense::Password),
    ("лозинка", Sense::Password),
    ("κωδικός", Sense::Password),
    ("συνθηματικό", Sense::Password),
    ("密码", Sense::Password),
    ("密碼", Sense::Password),
    ("口令", Sense::Password),
    ("パスワード", Sense::Password),
    ("暗証番号", Sense::Password),
    ("合言葉", Sense::Password),
    ("비밀번호", Sense::Password),
    ("암호", Sense::Password),
    ("패스워드", Sense::Password),
    ("รหัสผ่าน", Sense::Password),
    ("पासवर्ड", Sense::Password),
    ("كلمة المرور", Sense::Password),
    ("كلمة السر", Sense::Password),
    ("كلمة مرور", Sense::Password),
    ("گذرواژه", Sense::Password),
    ("رمز عبور", Sense::Password),
    ("סיסמה", Sense::Password),
    ("סיסמא", Sense::Password),
    ("секрет", Sense::Secret),
    ("токен", Sense::Secret),
    ("密钥", Sense::Secret),
    ("密鑰", Sense::Secret),
    ("秘钥", Sense::Secret),
    ("令牌", Sense::Secret),
    ("秘密鍵", Sense::Secret),
    ("シークレット", Sense::Secret),
    ("トークン", Sense::Secret),
    ("アクセスキー", Sense::Secret),
    ("토큰", Sense::Secret),
    ("비밀키", Sense::Secret),
    ("ключ", Sense::Hint),
];

/// Before `key`: whose key it is tells that it is secret.
const KEY_OF: &str = "\
    api access auth private secret signing encryption decryption encrypt cipher crypto master account shared \
    license service deploy app application storage client consumer hmac aes rsa ssh ssl tls pgp gpg webhook \
    write ingest integration routing functions function subscription admin root host preshared wg vapid jwt \
    session security recovery unseal bot user apikey secretkey dd stripe openai";

/// Before a word: it names something else.
const NOT_AFTER: &str = "\
    no without max min num total prompt completion page next continuation continue sync public pub foreign \
    primary partition sort cache row idx index unique natural idempotency dedup dedupe group grouping \
    translation registry status exit error response country zip postal http return reason lang currency event \
    input output missing invalid object cluster label map host_key per cursor";

/// After a word: the value is about the secret, not the secret.
const NOT_BEFORE: &str = "\
    name names file files filename path paths dir url uri urls endpoint endpoints host port user username id ids \
    ref refs count counts total num number length len size min max limit limits ttl expiry expires expired \
    expire expiration exp age lifetime duration timeout interval period type types kind format policy policies \
    version versions provider store storage manager mode enabled disabled required valid validity invalid status \
    state reset resets change changed updated created rotation rotate rotated cache bucket buckets usage used \
    use rate algo algorithm class owner group namespace prefix suffix field label hint mount mounts volume \
    volumes server service issuer audience scope scopes error errors failure failures failed success seconds sec \
    ms bytes time at by date review reviews request requests response budget window index selector controller \
    operator agent vault engine backend lease handler factory filter exception list present missing empty set \
    exists found source sources space method methods attempts alias board pair ring word words code info domain \
    samesite jar consent yaml yml json rb py go java rs ts js md sh conf txt pem crt metadata validation \
    validator generator revoked refresh sync syncs projection template templates tool module plugin plane per \
    remaining gateway proxy api svc worker exchange broker issuance issuer sidecar minter rotator";

/// Every place where a name may hold one of the words.
pub static ANYWHERE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let mut words: Vec<String> = STEMS.iter().chain(WORDS).chain(ELSEWHERE).map(|(word, _)| fold(word)).collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("(?i{}:{})", if word.is_ascii() { "-u" } else { "" }, regex::escape(word)))
        .collect();
    RegexBuilder::new(&words.join("|")).dfa_size_limit(CACHE).build().ok()
});

/// A short word in the middle of a longer one: `mapping` has no PIN. Decides before anything is built.
pub fn is_within(text: &str, start: usize, end: usize) -> bool {
    let Some(word) = text.get(start..end).filter(|word| word.len() <= 5 || *word == "session") else { return false };
    if !word.is_ascii() {
        return false;
    }
    let bytes = text.as_bytes();
    let before = start.checked_sub(1).and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
    let after = bytes.get(end).copied().unwrap_or(b' ');
    let joins = ["pw", "pwd", "pass", "key", "keys", "token"].iter().any(|known| word.eq_ignore_ascii_case(known));
    let first_lower = word.starts_with(|char: char| char.is_ascii_lowercase());
    let last_upper = word.ends_with(|char: char| char.is_ascii_uppercase());
    !STEMS.iter().any(|(stem, _)| word.eq_ignore_ascii_case(stem))
        && (after.is_ascii_lowercase()
            || last_upper && after.is_ascii_uppercase()
            || !joins && (first_lower && before.is_ascii_alphabetic() || !first_lower && before.is_ascii_uppercase()))
}

/// Of a word that stands in another script or is written as several.
pub fn elsewhere(word: &str) -> Option<Sense> {
    static FOLDED: LazyLock<Vec<(String, Sense)>> =
        LazyLock::new(|| ELSEWHERE.iter().map(|(word, sense)| (fold(word).to_lowercase(), *sense)).collect());
    if word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let word = word.to_lowercase();
    FOLDED.iter().find(|(known, _)| *known == word).map(|(_, sense)| *sense)
}

/// Of a name such as `DB_PASSWORD`, `spring.mail.password`, `x-api-key`, `clientSecret`.
pub fn sense(name: &str) -> Option<Sense> {
    let words = split(name);
    let mut best: Option<Sense> = None;
    for (at, word) in words.iter().enumerate() {
        let Some(found) = of_word(word, at.checked_sub(1).and_then(|before| words.get(before)).map(String::as_str))
        else {
            continue;
        };
        let after = words.get(at + 1..).unwrap_or_default();
        // `session_id` is the session, Vault's `secret_id` the secret.
        let itself = after == ["id"] && (word == "secret" || word.starts_with("sess"));
        if at
            .checked_sub(1)
            .and_then(|before| words.get(before))
            .is_some_and(|before| is_in(NOT_AFTER, before.as_str()))
            || !itself && after.iter().any(|word| is_in(NOT_BEFORE, word.as_str()))
        {
            continue;
        }
        best = best.max(Some(found));
    }
    best
}

fn of_word(word: &str, before: Option<&str>) -> Option<Sense> {
    if let Some((at, stem, sense)) = STEMS.iter().find_map(|(stem, sense)| Some((position(word, stem)?, *stem, *sense)))
    {
        let rest = &word[at + stem.len()..];
        let other = ["iz", "is", "ary", "ari", "ing", "ly", "less", "ed"].iter().any(|end| rest.starts_with(end));
        let about = is_in(NOT_BEFORE, rest);
        // `tokens` are counted more often than shown.
        return (!other && !about).then_some(if stem == "token" && rest == "s" { Sense::Hint } else { sense });
    }
    if let Some((_, sense)) = WORDS.iter().find(|(known, _)| *known == word) {
        let qualified = matches!(word, "key" | "keys") && before.is_some_and(|before| is_in(KEY_OF, before));
        return Some(if qualified { Sense::Secret } else { *sense });
    }
    if let Some(of) = word.strip_suffix("key").or_else(|| word.strip_suffix("keys")) {
        return is_in(KEY_OF, of).then_some(Sense::Secret);
    }
    let ends = |end: &str| word.len() > end.len() && word.ends_with(end);
    let other = ["bypass", "compass", "surpass", "trespass", "overpass", "underpass", "encompass", "impass"];
    if ends("sessid") || ends("sessionid") {
        return Some(Sense::Hint);
    }
    (["pw", "pwd", "pass"].into_iter().any(ends) && !other.contains(&word)).then_some(Sense::Password)
}

/// The words are short: cheaper than to prepare a search.
fn position(word: &str, stem: &str) -> Option<usize> {
    word.as_bytes().windows(stem.len()).position(|window| window == stem.as_bytes())
}

/// Of a list of words with a space between.
pub fn is_in(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

/// `api key` as `api_key`.
pub fn is_key_of(word: &str) -> bool {
    is_in(KEY_OF, word)
}

/// `dbPassword2`, `DB_PASSWORD`, `db.password` to lower-case words.
fn split(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    let mut chars = name.chars().peekable();
    while let Some(char) = chars.next() {
        let starts = char.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || before.is_ascii_uppercase() && chars.peek().is_some_and(char::is_ascii_lowercase));
        if starts || !char.is_alphanumeric() || char.is_ascii_digit() {
            words.push(String::new());
        }
        if char.is_alphanumeric()
            && !char.is_ascii_digit()
            && let Some(word) = words.last_mut()
        {
            word.extend(char.to_lowercase());
        }
        before = char;
    }
    words.retain(|word| !word.is_empty());
    words
}
