//! Templates of log lines: what the programmer wrote, with `<*>` where values were printed.
//!
//! [`template_of`] masks one line by itself. [`Miner`] learns templates from a stream of lines:
//! after He et al., "Drain: An Online Log Parsing Approach with Fixed Depth Tree" (ICWS 2017),
//! with a hand-written lexer for values, evidence counted in words instead of a threshold of
//! similarity, and merging of what was split too finely once more lines are known.
//!
//! Invariants: one configuration for all logs; the same lines in the same order give the same
//! templates; memory is bounded by the number of templates, never by the number of lines; a line
//! of a known shape allocates nothing.

mod consolidate;
pub mod novelty;
pub mod rates;
mod scan;
mod template;
mod token;
mod words;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use template::{Slot, SlotKind, generalise, kinship, render, skeleton, slots_of, spans};
use token::{Kind, Token, mix, tokenize};
use words::Grip;

/// Templates that are kept; beyond it the quarter that was silent longest is forgotten.
const MAX_CLUSTERS: usize = 8_192;
/// Shapes of lines that lead to a template at once; beyond it the older half is forgotten.
const MAX_SHAPES: usize = 65_536;
/// Templates of one length and beginning that a new shape is compared with, newest first.
const MAX_CANDIDATES: usize = 256;
/// New templates that call for a consolidation, besides half of what is known.
const FRESH: usize = 64;

/// `order 8123 failed after 5003ms` and `order 9 failed after 12ms` are one template.
pub fn template_of(line: &str) -> String {
    let mut tokens = Vec::with_capacity(32);
    tokenize(line, &mut tokens);
    let mut slots = Vec::with_capacity(tokens.len());
    slots_of(line, &tokens, &mut slots);
    render(line, &slots)
}

/// Names a template of one [`Miner`]; merged templates have several, see [`Miner::resolve`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TemplateId(u32);

/// Learns the templates of a stream of lines.
#[derive(Default)]
pub struct Miner {
    tokens: Vec<Token>,
    slots: Vec<Slot>,
    shapes: HashMap<u64, Shape, ByHash>,
    clusters: HashMap<u32, Cluster, ByHash>,
    /// By skeleton and beginning, oldest first.
    index: HashMap<u64, Vec<u32>, ByHash>,
    /// Templates with a gap, by beginning.
    gapped: HashMap<u64, Vec<u32>, ByHash>,
    /// Merged into what.
    aliases: HashMap<u32, u32, ByHash>,
    next: u32,
    fresh: usize,
    /// Lines so far: the clock of the LRU.
    tick: u64,
}

type ByHash = BuildHasherDefault<Hashed>;

/// What a line looks like once its values are masked.
struct Shape {
    cluster: u32,
    /// Of the held values, as last seen.
    held: u64,
    tick: u64,
}

struct Cluster {
    /// As much of the first line as the slots point into.
    line: Box<str>,
    slots: Vec<Slot>,
    tick: u64,
}

impl Miner {
    pub fn new() -> Self {
        Self::default()
    }

    /// The template of `line`, new or known.
    pub fn learn(&mut self, line: &str) -> TemplateId {
        let mut tokens = std::mem::take(&mut self.tokens);
        tokenize(line, &mut tokens);
        let id = self.place(line, &tokens);
        self.tokens = tokens;
        TemplateId(id)
    }

    /// What `id` has been merged into; itself if it stands alone.
    pub fn resolve(&self, id: TemplateId) -> TemplateId {
        let mut id = id.0;
        while let Some(into) = self.aliases.get(&id) {
            id = *into;
        }
        TemplateId(id)
    }

    /// The text of a template; `None` once it is forgotten.
    pub fn template(&self, id: TemplateId) -> Option<String> {
        self.clusters.get(&self.resolve(id).0).map(|cluster| render(&cluster.line, &cluster.slots))
    }

    /// Whether the template of `id` is not forgotten.
    pub fn knows(&self, id: TemplateId) -> bool {
        self.clusters.contains_key(&self.resolve(id).0)
    }

    /// How many templates are known.
    pub fn len(&self) -> usize {
        self.clusters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    fn place(&mut self, line: &str, tokens: &[Token]) -> u32 {
        self.tick += 1;
        let (signature, held) = fold(tokens);
        if let Some(shape) = self.shapes.get_mut(&signature) {
            shape.tick = self.tick;
            let id = shape.cluster;
            let changed = std::mem::replace(&mut shape.held, held) != held;
            if let Some(cluster) = self.clusters.get_mut(&id) {
                cluster.tick = self.tick;
                if changed && cluster.slots.len() == tokens.len() {
                    release(&mut cluster.slots, tokens);
                }
                return id;
            }
        }
        let mut slots = std::mem::take(&mut self.slots);
        slots_of(line, tokens, &mut slots);
        let id = self.join(line, &slots);
        self.slots = slots;
        if self.shapes.len() >= MAX_SHAPES {
            self.forget_shapes();
        }
        self.shapes.insert(signature, Shape { cluster: id, held, tick: self.tick });
        if self.fresh > FRESH + self.clusters.len() / 2 {
            self.consolidate();
        }
        self.resolve(TemplateId(id)).0
    }

    fn join(&mut self, line: &str, slots: &[Slot]) -> u32 {
        match self.closest(slots) {
            Some(id) => {
                if let Some(cluster) = self.clusters.get_mut(&id) {
                    cluster.tick = self.tick;
                    let gapped = cluster.slots.iter().any(|slot| slot.kind == SlotKind::Gap);
                    if !gapped && cluster.slots.len() == slots.len() {
                        generalise(&mut cluster.slots, slots);
                    }
                }
                id
            }
            None => self.found(line, slots),
        }
    }

    /// Of the templates that can cover the slots, the one that needs the least change.
    fn closest(&self, slots: &[Slot]) -> Option<u32> {
        let mut best: Option<(u32, u32, u32)> = None;
        let heads = [head_of(slots), OPEN_HEAD];
        let lists = if heads[0] == OPEN_HEAD { &heads[..1] } else { &heads[..] };
        let skeleton = skeleton(slots);
        for head in lists {
            for id in self.index.get(&index_key(skeleton, *head)).into_iter().flatten().rev().take(MAX_CANDIDATES) {
                let Some(cluster) = self.clusters.get(id) else { continue };
                let Some(kin) = kinship(&cluster.slots, slots).filter(|kin| kin.is_enough()) else { continue };
                let rank = (kin.cost, u32::MAX - kin.matched, *id);
                if best.is_none_or(|best| rank < best) {
                    best = Some(rank);
                }
            }
        }
        if let Some((.., id)) = best {
            return Some(id);
        }
        let gapped = lists.iter().flat_map(|head| self.gapped.get(head)).flatten();
        gapped.copied().find(|id| self.clusters.get(id).is_some_and(|cluster| spans(&cluster.slots, slots)))
    }

    fn found(&mut self, line: &str, slots: &[Slot]) -> u32 {
        if self.clusters.len() >= MAX_CLUSTERS {
            self.forget_clusters();
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.fresh += 1;
        self.enter(id, slots);
        let shown = slots.iter().filter(|slot| slot.kind != SlotKind::Value).map(|slot| slot.end as usize).max();
        let line = line.get(..shown.unwrap_or_default()).unwrap_or_default().into();
        self.clusters.insert(id, Cluster { line, slots: slots.to_vec(), tick: self.tick });
        id
    }

    fn enter(&mut self, id: u32, slots: &[Slot]) {
        let head = head_of(slots);
        if slots.iter().any(|slot| slot.kind == SlotKind::Gap) {
            self.gapped.entry(head).or_default().push(id);
        } else {
            self.index.entry(index_key(skeleton(slots), head)).or_default().push(id);
        }
    }

    /// Clusters moved, merged or gone: the index is built anew, in order of age.
    fn reindex(&mut self) {
        self.index.clear();
        self.gapped.clear();
        let mut clusters: Vec<_> = std::mem::take(&mut self.clusters).into_iter().collect();
        clusters.sort_unstable_by_key(|(id, _)| *id);
        for (id, cluster) in clusters {
            self.enter(id, &cluster.slots);
            self.clusters.insert(id, cluster);
        }
    }

    fn forget_clusters(&mut self) {
        let mut ticks: Vec<u64> = self.clusters.values().map(|cluster| cluster.tick).collect();
        let quarter = ticks.len() / 4;
        let limit = *ticks.select_nth_unstable(quarter).1;
        self.clusters.retain(|_, cluster| cluster.tick > limit);
        let targets: HashMap<u32, u32, ByHash> =
            self.aliases.keys().map(|id| (*id, self.resolve(TemplateId(*id)).0)).collect();
        self.aliases = targets.into_iter().filter(|(_, into)| self.clusters.contains_key(into)).collect();
        self.shapes.retain(|_, shape| self.clusters.contains_key(&shape.cluster));
        self.reindex();
    }

    fn forget_shapes(&mut self) {
        let mut ticks: Vec<u64> = self.shapes.values().map(|shape| shape.tick).collect();
        let half = ticks.len() / 2;
        let limit = *ticks.select_nth_unstable(half).1;
        self.shapes.retain(|_, shape| shape.tick > limit);
    }
}

/// Templates that begin with a value.
const OPEN_HEAD: u64 = 0;

fn index_key(skeleton: u64, head: u64) -> u64 {
    mix(head, skeleton)
}

/// The first slot, if it says which template this is.
fn head_of(slots: &[Slot]) -> u64 {
    match slots.first().map(|slot| slot.kind) {
        Some(
            SlotKind::Word { hash, grip: Grip::Glue | Grip::Firm | Grip::Capital | Grip::Plain }
            | SlotKind::Mark { hash },
        ) => hash,
        Some(
            SlotKind::Word { grip: Grip::Mixed | Grip::Loose | Grip::Unit, .. }
            | SlotKind::Held { .. }
            | SlotKind::Value,
        ) => OPEN_HEAD,
        Some(SlotKind::Open | SlotKind::Gap) | None => OPEN_HEAD,
    }
}

/// (what the words and the places of values are, what the held values are)
fn fold(tokens: &[Token]) -> (u64, u64) {
    let mut signature = tokens.len() as u64;
    let mut held = 0;
    for token in tokens {
        match token.kind {
            Kind::Word(_) | Kind::Mark => signature = mix(signature, token.hash),
            Kind::Value => signature = mix(signature, 1),
            Kind::Held => {
                signature = mix(signature, 2);
                held = mix(held, token.hash);
            }
        }
    }
    (signature, held)
}

/// Held values that turn out to vary are values.
fn release(slots: &mut [Slot], tokens: &[Token]) {
    for (slot, token) in slots.iter_mut().zip(tokens) {
        if let (SlotKind::Held { hash }, Kind::Held) = (slot.kind, token.kind)
            && hash != token.hash
        {
            slot.kind = SlotKind::Value;
        }
    }
}

/// The beginning of `text`, at most `length` bytes.
fn clip(text: &str, mut length: usize) -> &str {
    if text.len() <= length {
        return text;
    }
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    &text[..length]
}

/// Keys are hashes, or numbers that count up: one multiplication spreads them.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = token::hash_of(bytes);
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

#[cfg(test)]
mod tests;
