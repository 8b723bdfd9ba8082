//! The folder of runbooks, as chunks in memory.
//!
//! Invariants: each file is read once, whatever links lead to it; a folder with nothing in it is taken for one
//! that is not there yet, and costs no runbook.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::domain::runbook::{BadRunbook, Runbook};
use crate::domain::time::Timestamp;
use crate::memory::chunk::{Chunk, Kind, Tenant, Trust};
use crate::memory::index::digest_of;
use crate::memory::page::Page;
use crate::memory::point::{Level, Select};
use crate::memory::{Memory, MemoryError, blocking};

/// What `load_runbooks` found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    pub indexed: usize,
    pub unchanged: usize,
    /// Their files are gone.
    pub forgotten: usize,
    /// Not understood. What was kept of an earlier version of them stays.
    pub bad: Vec<BadRunbook>,
}

/// What the Markdown files of a folder are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Our own, each with the whole front matter; others are named as bad.
    Runbooks,
    /// Anything that people wrote, with or without front matter.
    Pages,
}

pub(super) async fn load(
    memory: &Memory,
    dir: &Path,
    tenant: &Tenant,
    reading: Reading,
) -> Result<Loaded, MemoryError> {
    let (folder, owner) = (dir.to_owned(), tenant.clone());
    let tenant = owner.clone();
    let (groups, bad) = blocking(move || read_all(&folder, &tenant, reading)).await?;

    let all = Select { kinds: vec![Kind::Runbook.as_str()], ..Select::documents(&owner, Vec::new()) };
    let mut kept: HashMap<String, String> = memory
        .scroll(all.at(Level::Document))
        .await?
        .into_iter()
        .map(|stored| (stored.chunk.doc, stored.digest))
        .collect();
    if groups.is_empty() && bad.is_empty() && !kept.is_empty() {
        let problem = format!("nothing to read is in it; the {} runbooks of before stay", kept.len());
        return Err(MemoryError::Folder { dir: dir.to_owned(), problem });
    }

    let mut loaded = Loaded::default();
    let mut changed = Vec::new();
    for group in groups {
        let Some(first) = group.first() else { continue };
        match kept.remove(&first.doc) {
            Some(digest) if digest == digest_of(&group) => loaded.unchanged += 1,
            _ => {
                loaded.indexed += 1;
                changed.extend(group);
            }
        }
    }
    memory.remember(changed).await?;
    for file in &bad {
        kept.remove(&file.file);
    }
    for doc in kept.keys() {
        memory.forget(&owner, doc).await?;
    }
    // Also for what was written since the last start; it is nothing where nothing has grown large.
    memory.settle().await?;
    Ok(Loaded { forgotten: kept.len(), bad, ..loaded })
}

type Groups = (Vec<Vec<Chunk>>, Vec<BadRunbook>);

fn read_all(dir: &Path, tenant: &Tenant, reading: Reading) -> Result<Groups, MemoryError> {
    let unreadable = |path: &Path, error: std::io::Error| MemoryError::Folder {
        dir: path.to_owned(),
        problem: format!("runbooks cannot be read: {error}"),
    };
    let files = find_markdown(dir, reading).map_err(|error| unreadable(dir, error))?;
    let (mut groups, mut bad) = (Vec::new(), Vec::new());
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        match (Runbook::parse(&name, &text), reading) {
            (Ok(runbook), _) => groups.push(chunks_of(&runbook, tenant)),
            (Err(_), Reading::Pages) => groups.push(chunks_of_page(&name, &Page::read(&name, &text), tenant)),
            (Err(problem), Reading::Runbooks) => bad.push(problem),
        }
    }
    Ok((groups, bad))
}

/// How the way to a folder is: a folder's own name goes before others that lead to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Own,
    Link,
}

/// In the order of their names. What begins with `..` is how Kubernetes keeps the versions of a mounted
/// ConfigMap: its files, and folders of files, are linked beside it under their own names.
fn find_markdown(dir: &Path, reading: Reading) -> std::io::Result<Vec<PathBuf>> {
    let (mut files, mut seen) = (vec![], BTreeSet::new());
    let mut waiting = BTreeSet::from([(Way::Own, dir.to_owned())]);
    while let Some((_, folder)) = waiting.pop_first() {
        if !seen.insert(folder.canonicalize()?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            if name.as_encoded_bytes().starts_with(b"..") {
                continue;
            }
            // A folder of runbooks explains itself there; among pages it is one of them.
            let readme = reading == Reading::Runbooks && name.eq_ignore_ascii_case("README.md");
            if path.is_dir() {
                let way = if entry.file_type()?.is_symlink() { Way::Link } else { Way::Own };
                waiting.insert((way, path));
            } else if path.extension().is_some_and(|extension| extension == "md") && !readme {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn chunks_of(runbook: &Runbook, tenant: &Tenant) -> Vec<Chunk> {
    let about = runbook.about();
    runbook
        .chunks()
        .into_iter()
        .map(|section| Chunk {
            kind: Kind::Runbook,
            doc: runbook.file.clone(),
            title: runbook.title.clone(),
            heading: section.heading,
            about: about.clone(),
            text: section.text,
            alerts: runbook.alerts.clone(),
            advises: runbook.actions.iter().map(ToString::to_string).collect(),
            tenant: tenant.clone(),
            service: None,
            incident: None,
            author: runbook.owner.clone(),
            trust: Trust::Curated,
            votes: 0,
            at: runbook.reviewed,
        })
        .collect()
}

/// A page belongs to nobody that could be named, and nobody has said when it was reviewed.
fn chunks_of_page(file: &str, page: &Page, tenant: &Tenant) -> Vec<Chunk> {
    page.sections()
        .into_iter()
        .map(|section| Chunk {
            kind: Kind::Runbook,
            doc: file.to_owned(),
            title: page.title.clone(),
            heading: section.heading,
            about: page.about.clone(),
            text: section.text,
            alerts: page.alerts.clone(),
            advises: Vec::new(),
            tenant: tenant.clone(),
            service: None,
            incident: None,
            author: String::new(),
            trust: Trust::Curated,
            votes: 0,
            at: Timestamp::from_secs(0),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(dir: &Path, file: &str) {
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "# Disk full\n\nMake room.\n").unwrap();
    }

    fn read(dir: &Path) -> Vec<String> {
        let (groups, bad) = read_all(dir, &Tenant::everyone(), Reading::Pages).unwrap();
        assert_eq!(bad, []);
        groups.iter().map(|group| group[0].doc.clone()).collect()
    }

    /// With `items` a ConfigMap may have files in folders: then the folder is linked.
    #[test]
    fn a_mounted_config_map_is_read_once_and_under_the_names_that_stay() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "..2026_11_28/full.md");
        write(dir.path(), "..2026_11_28/queue/lag.md");
        symlink("..2026_11_28", dir.path().join("..data")).unwrap();
        symlink("..data/full.md", dir.path().join("full.md")).unwrap();
        symlink("..data/queue", dir.path().join("queue")).unwrap();
        assert_eq!(read(dir.path()), ["full.md", "queue/lag.md"]);
    }

    #[test]
    fn a_folder_is_read_once_by_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "queue/lag.md");
        symlink("queue", dir.path().join("kafka")).unwrap();
        symlink("..", dir.path().join("queue/all")).unwrap();
        assert_eq!(read(dir.path()), ["queue/lag.md"]);
        let shared = tempfile::tempdir().unwrap();
        write(shared.path(), "full.md");
        symlink(shared.path(), dir.path().join("shared")).unwrap();
        assert_eq!(read(dir.path()), ["queue/lag.md", "shared/full.md"]);
    }
}
