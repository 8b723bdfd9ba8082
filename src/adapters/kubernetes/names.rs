//! Names as Kubernetes allows them (RFC 1123).
//!
//! Invariant: what is no name goes into no path. The client writes it there as it is, so that
//! `shop/configmaps/flags?x=` for a namespace would ask for another object.

use crate::ports::ClusterError;

const MAX_LABEL: usize = 63;
const MAX_SUBDOMAIN: usize = 253;

pub(super) fn namespace(given: &str) -> Result<(), ClusterError> {
    match is_label(given) {
        true => Ok(()),
        false => Err(refused("namespace", given)),
    }
}

/// `field` is what the name was given as: `pod`, `workload`.
pub(super) fn object(field: &str, given: &str) -> Result<(), ClusterError> {
    match given.len() <= MAX_SUBDOMAIN && given.split('.').all(is_part) {
        true => Ok(()),
        false => Err(refused(field, given)),
    }
}

fn refused(field: &str, given: &str) -> ClusterError {
    let shown: String = given.chars().take(80).collect();
    ClusterError::Refused(format!(
        "the {field} {shown:?} is no name that Kubernetes allows: it must be of lower case letters, digits and '-'"
    ))
}

fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && is_part(text)
}

/// Of a name with dots; its length is bounded by that of the whole.
fn is_part(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_go_into_paths() {
        let long = "a".repeat(64);
        for good in ["shop", "kube-system", "0", "team-0001"] {
            assert_eq!(namespace(good), Ok(()), "{good}");
        }
        for good in ["web-7d9c5b-x2x", "ip-10-0-3-7.eu-west-1.compute.internal", "kube-root-ca.crt", long.as_str()] {
            assert_eq!(object("pod", good), Ok(()), "{good}");
        }
        let strange =
            ["", "shop/configmaps/flags?x=", "..", "a..b", "-a", "a-", "A", "a%2Fb", "a b", "a?b", "a#b", "ä"];
        for bad in strange.into_iter().chain([long.repeat(4).as_str()]) {
            assert!(namespace(bad).is_err() && object("pod", bad).is_err(), "{bad}");
        }
        assert!(namespace("a.b").is_err() && namespace(&long).is_err());
        let Err(ClusterError::Refused(why)) = namespace("shop/x") else { panic!("it is allowed") };
        assert!(why.starts_with("the namespace \"shop/x\" is no name that Kubernetes allows"), "{why}");
    }
}
