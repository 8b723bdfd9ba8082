//! The folder of runbooks, as chunks in memory.

use std::collections::HashMap;
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
    let (dir, owner) = (dir.to_owned(), tenant.clone());
    let tenant = owner.clone();
    let (groups, bad) = blocking(move || read_all(&dir, &tenant, reading)).await?;

    let all = Select { kinds: vec![Kind::Runbook.as_str()], ..Select::documents(&owner, Vec::new()) };
    let mut kept: HashMap<String, String> = memory
        .scroll(all.at(Level::Document))
        .await?
        .into_iter()
        .map(|stored| (stored.chunk.doc, stored.digest))
        .collect();

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
    let mut files = Vec::new();
    let unreadable = |path: &Path, error: std::io::Error| MemoryError::Folder {
        dir: path.to_owned(),
        problem: format!("runbooks cannot be read: {error}"),
    };
    find_markdown(dir, reading, &mut files).map_err(|error| unreadable(dir, error))?;
    files.sort();
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

fn find_markdown(dir: &Path, reading: Reading, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        // A folder of runbooks explains itself there; among pages it is one of them.
        let readme =
            reading == Reading::Runbooks && path.file_name().is_some_and(|name| name.eq_ignore_ascii_case("README.md"));
        if path.is_dir() {
            find_markdown(&path, reading, files)?;
        } else if path.extension().is_some_and(|extension| extension == "md") && !readme {
            files.push(path);
        }
    }
    Ok(())
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
