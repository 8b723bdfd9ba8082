//! What tests of the embedded store have in common.

use super::{Db, Store};

pub(super) async fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap()
}

pub(super) async fn run(store: &Store, sql: &'static str) {
    let Db::Sqlite(pool) = &store.core.db else { panic!("the embedded store") };
    sqlx::query(sql).execute(pool).await.unwrap();
}

/// The first column of the rows.
pub(super) async fn left(store: &Store, sql: &'static str) -> Vec<String> {
    let Db::Sqlite(pool) = &store.core.db else { panic!("the embedded store") };
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}
