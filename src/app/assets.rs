//! Runbooks that midwatch carries, for a machine that has only the binary.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use tracing::warn;

use crate::config::Config;

static RUNBOOKS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/runbooks");

/// The configured folder, else the carried runbooks, unpacked into the data folder.
pub fn runbook_folder(config: &Config) -> PathBuf {
    if let Some(folder) = &config.runbooks.dir {
        return folder.clone();
    }
    let folder = config.store.data_dir.join("runbooks");
    if let Err(failure) = unpack(&RUNBOOKS, &folder) {
        warn!(error = %failure, folder = %folder.display(), "the carried runbooks could not be unpacked");
    }
    folder
}

fn unpack(dir: &Dir<'_>, into: &Path) -> std::io::Result<()> {
    for file in dir.files() {
        let path = into.join(file.path());
        if std::fs::read(&path).is_ok_and(|there| there == file.contents()) {
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, file.contents())?;
    }
    dir.dirs().try_for_each(|dir| unpack(dir, into))
}
