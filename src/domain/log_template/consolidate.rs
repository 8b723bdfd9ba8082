//! Merging of templates that were split too finely, once enough of them are known.
//!
//! Invariant: a merge only makes templates more general, so lines stay with their template.

use super::template::{
    Kinship, Slot, SlotKind, Stance, fixed_part, generalise, is_value_like, kinship, skeleton, stance,
};
use super::token::mix;
use super::words::Grip;
use super::{Cluster, Miner, head_of};

/// Merging makes new neighbours; three rounds reach what can be reached in practice.
const ROUNDS: usize = 3;
/// Templates of one beginning that are compared pair by pair.
const MAX_PAIRS: usize = 192;

impl Miner {
    /// Merges what proves to be one template; called by itself as templates accumulate, and by
    /// whoever is about to read them.
    pub fn consolidate(&mut self) {
        for _ in 0..ROUNDS {
            let before = self.clusters.len();
            self.merge_columns();
            self.merge_kin();
            self.merge_lengths();
            if self.clusters.len() == before {
                break;
            }
        }
        self.merge_lists();
        for shape in self.shapes.values_mut() {
            let mut id = shape.cluster;
            while let Some(into) = self.aliases.get(&id) {
                id = *into;
            }
            shape.cluster = id;
        }
        self.reindex();
        self.fresh = 0;
    }

    /// Templates that agree but for one place, where many different words stand: a value.
    fn merge_columns(&mut self) {
        let mut places: Vec<(u64, u32, u16)> = vec![];
        let mut hashes: Vec<u64> = vec![];
        let mut behind: Vec<u64> = vec![];
        for id in self.ids() {
            let Some(Cluster { slots, .. }) = self.clusters.get(&id) else { continue };
            hashes.clear();
            hashes.extend(slots.iter().map(|slot| slot_hash(slot.kind)));
            // Hashes of what stands before and behind each place.
            let mut before = slots.len() as u64;
            behind.clear();
            behind.resize(slots.len() + 1, 0);
            for place in (0..slots.len()).rev() {
                behind[place] = mix(behind[place + 1], hashes[place]);
            }
            for place in 0..slots.len() {
                if matches!(slots[place].kind, SlotKind::Word { grip, .. } if grip != Grip::Glue)
                    || is_open(slots[place].kind)
                {
                    let key = mix(mix(before, behind[place + 1]), place as u64);
                    places.push((key, id, place as u16));
                }
                before = mix(before, hashes[place]);
            }
        }
        // Most places are like no other: a small table of counts tells, and sorting them is saved.
        let mut counts = vec![0_u8; (places.len() * 4).next_power_of_two()];
        let counter = |key: u64| key as usize & ((places.len() * 4).next_power_of_two() - 1);
        for (key, ..) in &places {
            let count = &mut counts[counter(*key)];
            *count = count.saturating_add(1);
        }
        let mut places: Vec<_> = places.iter().copied().filter(|(key, ..)| counts[counter(*key)] > 1).collect();
        places.sort_unstable();
        let mut columns: Vec<&[(u64, u32, u16)]> =
            places.chunk_by(|one, other| one.0 == other.0).filter(|column| column.len() > 1).collect();
        // The widest column first; the order of keys, which are hashes of the text, breaks ties.
        columns.sort_by_key(|column| std::cmp::Reverse(column.len()));
        for column in columns {
            let place = usize::from(column[0].2);
            let ids: Vec<u32> =
                column.iter().map(|(_, id, _)| *id).filter(|id| self.clusters.contains_key(id)).collect();
            if ids.len() > 1 && self.is_value_column(&ids, place) {
                for id in &ids[1..] {
                    self.merge(ids[0], *id);
                }
            }
        }
    }

    /// Whether the words at `place` are so many, and so little like words of a programmer, that
    /// they are values. Each word is worth a share of the proof, by its grip.
    fn is_value_column(&self, ids: &[u32], place: usize) -> bool {
        let Some(first) = ids.first().and_then(|id| self.clusters.get(id)) else { return false };
        let rest = first.slots.iter().enumerate().filter(|(at, slot)| *at != place && is_word(slot.kind)).count();
        let stance = stance(&first.slots, place);
        let mut proof = 0;
        for id in ids {
            let Some(slot) = self.clusters.get(id).and_then(|cluster| cluster.slots.get(place)) else { return false };
            proof += match slot.kind {
                SlotKind::Word { grip: Grip::Mixed | Grip::Loose | Grip::Unit, .. } => 6,
                SlotKind::Open | SlotKind::Value | SlotKind::Held { .. } => 6,
                SlotKind::Word { grip: Grip::Plain, .. } => match stance {
                    Stance::Name => 4,
                    Stance::Neutral => 3,
                    Stance::Label => 2,
                },
                SlotKind::Word { grip: Grip::Capital, .. } if stance == Stance::Name => 4,
                SlotKind::Word { grip: Grip::Firm | Grip::Capital, .. } => 1,
                SlotKind::Word { grip: Grip::Glue, .. } | SlotKind::Mark { .. } | SlotKind::Gap => return false,
            };
        }
        let asked = match rest {
            0 => return false,
            1 => 18,
            _ => 12,
        };
        proof >= if place == 0 { asked * 3 / 2 } else { asked }
    }

    /// Templates of one length that have become kin since they were founded.
    fn merge_kin(&mut self) {
        self.merge_pairs(skeleton, |one, other| kinship(one, other).is_some_and(Kinship::is_enough));
    }

    /// Templates of different lengths that agree before and behind one value of several words.
    fn merge_lengths(&mut self) {
        self.merge_pairs(fixed_part, |one, other| gap_between(one, other).is_some());
    }

    /// Templates that print one text: they differ only in how many values stand in a row.
    fn merge_lists(&mut self) {
        let mut all: Vec<(u64, u32)> =
            self.clusters.iter().map(|(id, cluster)| (printed(&cluster.slots), *id)).collect();
        all.sort_unstable();
        for group in all.chunk_by(|one, other| one.0 == other.0) {
            let into = group[0].1;
            for (_, from) in &group[1..] {
                let gone = self.forward(*from, into);
                let (Some(gone), Some(cluster)) = (gone, self.clusters.get_mut(&into)) else { continue };
                if stand_alike(&cluster.slots, &gone) {
                    generalise(&mut cluster.slots, &gone);
                } else if let Some(gap) = gap_between(&cluster.slots, &gone) {
                    widen(&mut cluster.slots, &gone, gap);
                } else {
                    // Several lists differ at once: the slots of one template stand for all.
                    forget_held(&mut cluster.slots);
                }
            }
        }
    }

    /// Merges what `fits` among the templates of one beginning that are alike in `trait_of`.
    fn merge_pairs(&mut self, trait_of: impl Fn(&[Slot]) -> u64, fits: impl Fn(&[Slot], &[Slot]) -> bool) {
        let mut all: Vec<(u64, u32)> = self
            .clusters
            .iter()
            .map(|(id, cluster)| (mix(trait_of(&cluster.slots), head_of(&cluster.slots)), *id))
            .collect();
        all.sort_unstable();
        for group in all.chunk_by(|one, other| one.0 == other.0).filter(|group| group.len() > 1) {
            let mut left: Vec<u32> = group.iter().rev().take(MAX_PAIRS).map(|(_, id)| *id).collect();
            left.reverse();
            let mut at = 0;
            while at < left.len() {
                let into = left[at];
                let mut behind = at + 1;
                while behind < left.len() {
                    let pair = (self.clusters.get(&into), self.clusters.get(&left[behind]));
                    if let (Some(one), Some(other)) = pair
                        && fits(&one.slots, &other.slots)
                    {
                        self.merge(into, left[behind]);
                        left.remove(behind);
                    } else {
                        behind += 1;
                    }
                }
                at += 1;
            }
        }
    }

    fn merge(&mut self, into: u32, from: u32) {
        let Some(gone) = self.forward(from, into) else { return };
        let Some(cluster) = self.clusters.get_mut(&into) else { return };
        if cluster.slots.len() == gone.len() {
            generalise(&mut cluster.slots, &gone);
        } else if let Some(gap) = gap_between(&cluster.slots, &gone) {
            widen(&mut cluster.slots, &gone, gap);
        }
    }

    /// From now on `from` means `into`; gives the slots that `from` had.
    fn forward(&mut self, from: u32, into: u32) -> Option<Vec<Slot>> {
        let gone = self.clusters.remove(&from)?;
        self.aliases.insert(from, into);
        if let Some(cluster) = self.clusters.get_mut(&into) {
            cluster.tick = cluster.tick.max(gone.tick);
        }
        Some(gone.slots)
    }

    fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.clusters.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}

/// Puts a gap where `other` holds more or fewer slots: between `head` and `tail` of them.
fn widen(slots: &mut Vec<Slot>, other: &[Slot], (head, tail): (usize, usize)) {
    generalise(&mut slots[..head], &other[..head]);
    let (slots_tail, other_tail) = (slots.len() - tail, other.len() - tail);
    generalise(&mut slots[slots_tail..], &other[other_tail..]);
    let spaced = slots[head..slots_tail].iter().chain(&other[head..other_tail]).any(|slot| slot.spaced);
    slots.splice(head..slots_tail, [Slot { kind: SlotKind::Gap, spaced, introduces: false, start: 0, end: 0 }]);
}

fn forget_held(slots: &mut [Slot]) {
    for slot in slots.iter_mut().filter(|slot| matches!(slot.kind, SlotKind::Held { .. })) {
        slot.kind = SlotKind::Value;
    }
}

/// (slots before the gap, slots behind it) if two templates differ by one value of several words.
fn gap_between(one: &[Slot], other: &[Slot]) -> Option<(usize, usize)> {
    let short = one.len().min(other.len());
    if one.len() == other.len() || short < 3 {
        return None;
    }
    let equal = |a: &Slot, b: &Slot| slot_hash(a.kind) == slot_hash(b.kind) && !matches!(a.kind, SlotKind::Gap);
    let head = one.iter().zip(other).take_while(|(a, b)| equal(a, b)).count();
    let tail = one.iter().rev().zip(other.iter().rev()).take(short - head).take_while(|(a, b)| equal(a, b)).count();
    let middles = [&one[head..one.len() - tail], &other[head..other.len() - tail]];
    let mut cost = 0;
    let mut listed = false;
    for slot in middles.into_iter().flatten() {
        if !is_value_like(slot.kind) {
            return None;
        }
        let plain = matches!(slot.kind, SlotKind::Word { grip: Grip::Plain, .. });
        // A word that one of them lacks is an addition to what is said, unless it looks like a value.
        if matches!(slot.kind, SlotKind::Word { grip: Grip::Plain | Grip::Mixed, .. })
            && middles.iter().any(|middle| middle.is_empty())
        {
            return None;
        }
        if plain {
            cost += 3;
        } else if is_word(slot.kind) || !listed {
            cost += 1;
        }
        // How many values stand in a row says nothing: they cost once.
        listed |= !is_word(slot.kind);
    }
    let words = one[..head].iter().chain(&one[one.len() - tail..]).filter(|slot| is_word(slot.kind)).count();
    (words >= cost.max(2)).then_some((head, tail))
}

fn is_word(kind: SlotKind) -> bool {
    matches!(kind, SlotKind::Word { .. })
}

fn is_open(kind: SlotKind) -> bool {
    matches!(kind, SlotKind::Open | SlotKind::Value | SlotKind::Held { .. })
}

/// Of the text that a template prints: values in a row are one.
fn printed(slots: &[Slot]) -> u64 {
    let mut text = 0;
    let mut listed = false;
    for slot in slots {
        let value = is_open(slot.kind) || slot.kind == SlotKind::Gap;
        if !(value && listed) {
            text = mix(text, if value { 1 } else { slot_hash(slot.kind) });
        }
        listed = value;
    }
    text
}

/// Whether values stand at the same places.
fn stand_alike(one: &[Slot], other: &[Slot]) -> bool {
    let is_value = |slot: &Slot| is_open(slot.kind) || slot.kind == SlotKind::Gap;
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_value(one) == is_value(other))
}

/// All values are alike, and so are their units.
fn slot_hash(kind: SlotKind) -> u64 {
    match kind {
        SlotKind::Word {
            hash,
            grip: Grip::Glue | Grip::Firm | Grip::Capital | Grip::Plain | Grip::Mixed | Grip::Loose,
        }
        | SlotKind::Mark { hash } => hash,
        SlotKind::Held { .. } | SlotKind::Value | SlotKind::Open | SlotKind::Word { grip: Grip::Unit, .. } => 1,
        SlotKind::Gap => 2,
    }
}
