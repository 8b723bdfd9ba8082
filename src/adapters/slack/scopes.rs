//! What the app must be allowed to do, and what for. `deploy/slack-manifest.yaml` asks for the same.

/// A right of the bot token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    pub name: &'static str,
    /// What does not work without it.
    pub purpose: &'static str,
    pub need: Need,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The watch cannot stand without it.
    Always,
    /// Something is left out without it, and the rest works.
    ForMore,
}

const fn always(name: &'static str, purpose: &'static str) -> Scope {
    Scope { name, purpose, need: Need::Always }
}

const fn more(name: &'static str, purpose: &'static str) -> Scope {
    Scope { name, purpose, need: Need::ForMore }
}

pub const SCOPES: [Scope; 14] = [
    always("chat:write", "posts, edits and takes back its own messages"),
    always("commands", "hears /ops"),
    always("app_mentions:read", "hears mentions"),
    always("channels:history", "reads back after a lost reply, so that nothing is posted twice"),
    always("channels:read", "finds the channel by its name"),
    always("im:history", "hears direct messages"),
    always("users:read", "refuses bots, guests and deleted users"),
    always("usergroups:read", "finds out who is in the approvers' group"),
    more("users:read.email", "mentions who is on call by a schedule of PagerDuty or Opsgenie"),
    more("files:write", "uploads pictures into the thread"),
    more("assistant:write", "shows that it is at work while somebody waits"),
    more("groups:history", "reads back in private channels"),
    more("groups:read", "finds a private channel by its name"),
    more("channels:manage", "opens and archives a channel of its own for a big incident"),
];

/// Those of `SCOPES` that `granted` (the header `X-OAuth-Scopes`) does not list.
pub fn missing(granted: &[String], need: Need) -> Vec<Scope> {
    SCOPES.into_iter().filter(|scope| scope.need == need && !granted.iter().any(|name| name == scope.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that the manifest asks for, commented out or not.
    fn manifest() -> String {
        include_str!("../../../deploy/slack-manifest.yaml").to_owned()
    }

    #[test]
    fn the_manifest_asks_for_every_scope_and_for_no_other() {
        let manifest = manifest();
        let listed: Vec<&str> = manifest
            .lines()
            .skip_while(|line| line.trim() != "bot:")
            .skip(1)
            .take_while(|line| line.trim_start().starts_with(['-', '#']))
            .filter_map(|line| line.trim_start().trim_start_matches(['#', ' ', '-']).split_whitespace().next())
            .collect();
        for scope in SCOPES {
            assert!(listed.contains(&scope.name), "{} is not in the manifest: {listed:?}", scope.name);
        }
        for name in &listed {
            assert!(SCOPES.iter().any(|scope| scope.name == *name), "{name} has no purpose");
        }
    }

    #[test]
    fn every_missing_scope_is_named() {
        let granted: Vec<String> = ["chat:write", "commands", "im:history"].map(str::to_owned).into();
        let names: Vec<&str> = missing(&granted, Need::Always).iter().map(|scope| scope.name).collect();
        assert_eq!(names, ["app_mentions:read", "channels:history", "channels:read", "users:read", "usergroups:read"]);
        assert_eq!(missing(&granted, Need::ForMore).len(), 6);
    }
}
