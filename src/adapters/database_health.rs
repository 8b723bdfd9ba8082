//! What databases say of themselves: the looks that each kind of server has, and how they are asked for.
//!
//! Invariant: the model chooses the name of a look and of a database, never SQL.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::DatabaseConfig;
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::speciality::Speciality;
use crate::ports::{Handling, InstrumentError, Observation, ToolSchema};

/// One look: a row of its answer is one line.
pub(super) struct Look {
    pub name: &'static str,
    pub shows: &'static str,
    pub sql: &'static str,
    /// Said instead by servers that do not know the first.
    pub or: Option<&'static str>,
    /// Columns that are told; all when empty.
    pub columns: &'static [&'static str],
    /// Whether applications can write what it shows, such as the text of a query.
    pub taint: Taint,
}

/// Servers of one kind.
pub(super) struct Kind {
    pub tool: &'static str,
    pub server: &'static str,
    pub source: &'static str,
    pub looks: &'static [Look],
    /// SQLSTATE of what this server or this role does not have: a table, a column, a right.
    pub lacking: &'static [&'static str],
}

/// A database and the pool that asks it.
pub(super) type Asked<P> = (DatabaseConfig, P);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    database: Option<String>,
    look: String,
}

fn names<P>(databases: &[Asked<P>]) -> Vec<&str> {
    databases.iter().map(|(config, _)| config.name.as_str()).collect()
}

impl Kind {
    fn look_names(&self) -> Vec<&'static str> {
        self.looks.iter().map(|look| look.name).collect()
    }

    pub fn schema<P>(&self, databases: &[Asked<P>]) -> ToolSchema {
        let looks: Vec<String> = self.looks.iter().map(|look| format!("{}: {}", look.name, look.shows)).collect();
        ToolSchema {
            name: self.tool.to_owned(),
            description: format!("What a {} says of itself. Looks: {}.", self.server, looks.join("; ")),
            parameters: json!({
                "type": "object",
                "properties": {
                    "database": {"type": "string", "enum": names(databases)},
                    "look": {"type": "string", "enum": self.look_names()},
                },
                "required": if databases.len() > 1 { json!(["database", "look"]) } else { json!(["look"]) },
                "additionalProperties": false,
            }),
        }
    }

    pub fn handling<P>(&self, databases: &[Asked<P>]) -> Handling {
        let statement = databases.iter().map(|(config, _)| config.statement_seconds).max().unwrap_or_default();
        Handling {
            source: self.source,
            kind: EvidenceKind::Database,
            timeout: Duration::from_secs(statement + 7),
            shown: 4_000,
            specialities: vec![Speciality::Database],
        }
    }

    /// Which look at which database is asked for.
    pub fn chosen<'a, P>(
        &self,
        arguments: Value,
        databases: &'a [Asked<P>],
    ) -> Result<(&'static Look, &'a DatabaseConfig, &'a P), InstrumentError> {
        let refused = InstrumentError::Refused;
        let Arguments { database, look } =
            serde_json::from_value(arguments).map_err(|why| refused(format!("the arguments do not fit: {why}")))?;
        let look =
            self.looks.iter().find(|one| one.name == look).ok_or_else(|| {
                refused(format!("there is no look {look:?}; there are {}", self.look_names().join(", ")))
            })?;
        let found = match &database {
            Some(name) => databases.iter().find(|(config, _)| config.name == *name),
            None => databases.first().filter(|_| databases.len() == 1),
        };
        let must = || refused(format!("`database` must be one of {}", names(databases).join(", ")));
        let (config, pool) = found.ok_or_else(must)?;
        Ok((look, config, pool))
    }

    pub fn told(
        &self,
        look: &Look,
        config: &DatabaseConfig,
        lines: Result<Vec<String>, sqlx::Error>,
    ) -> Result<Observation, InstrumentError> {
        let lines = match lines {
            Ok(lines) => lines,
            Err(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| self.lacking.contains(&code.as_ref())) =>
            {
                let why = format!("{} does not have what `{}` needs: {error}", config.name, look.name);
                return Err(InstrumentError::Refused(why));
            }
            Err(error) => return Err(away(config, &error)),
        };
        let first = lines.first().map(|line| format!("; {line}")).unwrap_or_default();
        let query = format!("{} of {}", look.name, config.name);
        let summary = format!("{query}: {} rows{first}", lines.len());
        let body = if lines.is_empty() { "no rows".to_owned() } else { lines.join("\n") };
        Ok(Observation { query, summary, body, taint: look.taint })
    }
}

pub(super) fn away(config: &DatabaseConfig, error: &sqlx::Error) -> InstrumentError {
    InstrumentError::Unavailable(format!("{}: {error}", config.name))
}
