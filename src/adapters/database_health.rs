//! What databases say of themselves: the looks that each kind of server has, and how they are asked for.
//!
//! Invariant: the model chooses the name of a look and of a database, never SQL.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;

use crate::config::DatabaseConfig;
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::speciality::Speciality;
use crate::ports::{Handling, InstrumentError, Observation, ToolSchema};

/// How long a connection of its own may take.
const GREETING: Duration = Duration::from_secs(3);

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
    /// Whether a server that lets nobody in says so of what we gave it: the password, the name of a database.
    pub is_ours: fn(&(dyn DatabaseError + 'static)) -> bool,
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
            timeout: Duration::from_secs(statement + 7) + GREETING,
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

    /// Why nothing was answered. A pool tries again for as long as it may and then says only that time ran out;
    /// that the server has no connection left, or is not there, is what somebody looks for and must be able to cite.
    pub async fn unanswered<O: ConnectOptions>(
        &self,
        config: &DatabaseConfig,
        failed: &sqlx::Error,
        options: &O,
    ) -> Result<Observation, InstrumentError>
    where
        O::Connection: Sized,
    {
        let why = match timeout(GREETING, options.connect()).await {
            Err(_) => format!("gives no answer within {} s", GREETING.as_secs()),
            Ok(Err(sqlx::Error::Database(error))) if !(self.is_ours)(error.as_ref()) => {
                format!("lets nobody in: {error}{}", error.code().map(|code| format!(" ({code})")).unwrap_or_default())
            }
            Ok(Err(sqlx::Error::Io(error))) => format!("cannot be reached: {error}"),
            Ok(Err(error)) => return Err(away(config, &error)),
            Ok(Ok(connection)) => {
                let _ = timeout(GREETING, connection.close()).await;
                return Err(away(config, failed));
            }
        };
        let summary = format!("{} {why}", config.name);
        let query = format!("a connection to {}", config.name);
        Ok(Observation { query, body: summary.clone(), summary, taint: Taint::Observed })
    }
}

/// Whether a pool gave up before the server took the question, or the server has turned it away: out of connections
/// or about to stop.
pub(super) fn is_unanswered(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
            Some(error) => [1040, 1053, 1203, 1226].contains(&error.number()),
            None => error.code().is_some_and(|code| ["08", "53", "57P"].iter().any(|class| code.starts_with(class))),
        },
        _ => false,
    }
}

pub(super) fn away(config: &DatabaseConfig, error: &sqlx::Error) -> InstrumentError {
    InstrumentError::Unavailable(format!("{}: {error}", config.name))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::adapters::mysql_health::MysqlHealth;
    use crate::adapters::sql_health::SqlHealth;
    use crate::ports::Instrument;

    /// A server that says `words` to everybody who comes and hangs up.
    async fn saying(words: Vec<u8>, after_hearing: bool) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut heard = [0; 1024];
                if after_hearing {
                    let _ = socket.read(&mut heard).await;
                }
                let _ = socket.write_all(&words).await;
                // Not before it was read: what is unread at the end is lost with a reset.
                let _ = socket.read(&mut heard).await;
            }
        });
        port
    }

    fn refused_by_postgres(code: &str, message: &str) -> Vec<u8> {
        let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
        let length = (fields.len() as u32 + 4).to_be_bytes();
        [b"E".as_slice(), &length, fields.as_bytes()].concat()
    }

    fn refused_by_mysql(number: u16, message: &str) -> Vec<u8> {
        let body = [[0xff].as_slice(), number.to_le_bytes().as_slice(), message.as_bytes()].concat();
        [[body.len() as u8, 0, 0, 0].as_slice(), body.as_slice()].concat()
    }

    fn config(url: &str) -> DatabaseConfig {
        toml::from_str(&format!("name = \"orders\"\nurl = \"{url}\"")).unwrap()
    }

    async fn postgres(words: Vec<u8>) -> Result<Observation, InstrumentError> {
        let port = saying(words, true).await;
        let config = config(&format!("postgres://m:s3cret@127.0.0.1:{port}/orders?sslmode=disable"));
        SqlHealth::new(&[config]).unwrap().ask(json!({"look": "connections"})).await
    }

    #[tokio::test]
    async fn a_server_without_connections_is_evidence_and_a_wrong_password_is_not() {
        let full = postgres(refused_by_postgres("53300", "sorry, too many clients already"));
        let locked = postgres(refused_by_postgres("28P01", "password authentication failed for user m"));
        let mysql = async {
            let port = saying(refused_by_mysql(1040, "Too many connections"), false).await;
            let config = config(&format!("mysql://m:s3cret@127.0.0.1:{port}/orders?ssl-mode=disabled"));
            MysqlHealth::new(&[config]).unwrap().ask(json!({"look": "connections"})).await
        };
        let closed = async {
            let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
            let config = config(&format!("postgres://m:s3cret@127.0.0.1:{port}/orders?sslmode=disable"));
            SqlHealth::new(&[config]).unwrap().ask(json!({"look": "connections"})).await
        };
        let (full, locked, mysql, closed) = futures::join!(full, locked, mysql, closed);
        let full = full.unwrap();
        assert_eq!((full.query.as_str(), full.taint), ("a connection to orders", Taint::Observed));
        assert!(full.summary.starts_with("orders lets nobody in: ") && full.summary.ends_with("(53300)"), "{full:?}");
        assert!(full.summary.contains("sorry, too many clients already"), "{full:?}");
        assert!(matches!(&locked, Err(InstrumentError::Unavailable(why)) if why.contains("password")), "{locked:?}");
        let mysql = mysql.unwrap();
        assert!(mysql.summary.contains("Too many connections"), "{mysql:?}");
        let closed = closed.unwrap();
        assert!(closed.summary.starts_with("orders cannot be reached: "), "{closed:?}");
    }
}
