//! Names of things. Each is a newtype so that an incident is never mistaken for a plan. Their text is
//! shared: each alert that is judged carries the name of its incident.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into().into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// `INC-214`, counted by the store.
    IncidentId
);
text_id!(
    /// `INC-214.E3`: evidence is numbered within its incident, so that a person can say it aloud.
    EvidenceId
);
text_id!(
    /// `INC-214.P1`
    PlanId
);
text_id!(
    /// A person as the chat knows them: `team/user`, both taken from a signed payload.
    PersonId
);

impl IncidentId {
    pub fn numbered(number: i64) -> Self {
        Self::new(format!("INC-{number}"))
    }

    /// Accepts what people type: `inc-214`, `INC214`, `#214`, `214`. What begins otherwise names something
    /// else: `db1` is no incident.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        Self::with_prefix(text).or_else(|| Self::of_digits(text.strip_prefix('#').unwrap_or(text)))
    }

    /// The same for where a number alone may mean something else.
    pub fn with_prefix(text: &str) -> Option<Self> {
        let (prefix, rest) = text.trim().split_at_checked(3)?;
        let is_ours = prefix.eq_ignore_ascii_case("INC");
        is_ours.then(|| Self::of_digits(rest.strip_prefix('-').unwrap_or(rest))).flatten()
    }

    fn of_digits(digits: &str) -> Option<Self> {
        // `parse` alone would take a sign.
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<i64>().ok().filter(|number| is_number && *number > 0).map(Self::numbered)
    }

    pub fn evidence(&self, number: usize) -> EvidenceId {
        EvidenceId::new(format!("{self}.E{number}"))
    }

    pub fn plan(&self, number: usize) -> PlanId {
        PlanId::new(format!("{self}.P{number}"))
    }
}

impl EvidenceId {
    /// `E3`, the mark that a narrative carries.
    pub fn mark(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or(&self.0)
    }
}

/// SHA-256, written as 64 hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex(&Sha256::digest(bytes)))
    }

    /// The digest of parts one behind the other.
    pub fn of_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hex(&hasher.finalize()))
    }

    /// The digest of a value's canonical JSON: struct fields in declaration order and maps sorted,
    /// which holds because our own structs use `BTreeMap` only.
    pub fn of_json<T: Serialize>(value: &T) -> Self {
        Self::of(&serde_json::to_vec(value).unwrap_or_default())
    }

    /// A chain link: the digest of the previous link and this body.
    pub fn chained(previous: &Digest, body: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(previous.0.as_bytes());
        hasher.update([0]);
        hasher.update(body);
        Self(hex(&hasher.finalize()))
    }

    /// The link before the first.
    pub fn genesis() -> Self {
        Self("0".repeat(64))
    }

    pub fn from_hex(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits: enough for a person and for a button's value.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_as_an_incident_is_one() {
        let read = |text: &str| IncidentId::parse(text).map(|id| id.to_string());
        for text in ["INC-7", "inc-7", "INC7", "Inc7", "#7", "7", " 7 ", "INC-007"] {
            assert_eq!(read(text).as_deref(), Some("INC-7"), "{text}");
        }
        for text in ["db7", "web-7", "node7", "sev7", "us7", "-7", "+7", "INC--7", "INC-+7", "0", "INC", "", "#", "ÄÖ7"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(IncidentId::with_prefix("7"), None);
        assert_eq!(IncidentId::with_prefix("#7"), None);
        assert_eq!(IncidentId::with_prefix("inc7"), Some(IncidentId::numbered(7)));
    }
}
