//! Votes: what helped, on which occasion, and what that says about a question of today. Pure.
//!
//! Invariants: a vote speaks for questions like the one that it was given for, and for no others:
//! both must resemble each other and point to the same documents; each voter counts once for a
//! document, however often they voted; a vote of somebody who is not known to the policy counts for
//! nothing; it takes two voters to contradict two; all votes together move a rank by `VOTES` at most.

use std::collections::{BTreeMap, HashMap};

use rustc_hash::FxHashSet;

use crate::domain::time::Timestamp;
use crate::memory::CANDIDATES;
use crate::memory::chunk::{Chunk, Tenant, Trust};
use crate::memory::index::Question;
use crate::memory::point::Hit;
use crate::memory::rank::cosine;

/// How far all votes together move a rank, on the scale of the score (0 to 1).
pub(crate) const VOTES: f32 = 0.25;
/// Net votes at which half of `VOTES` is reached. The way there is steeper than straight: one voice
/// alone moves a tenth of `VOTES`, three that agree move half of it.
const HALFWAY: f32 = 3.0;
/// Below this the texts of two occasions have nothing to do with each other; see `resemblance`.
const ANOTHER_STORY: f32 = 0.40;
/// Below this two occasions point to different documents; see `agreement`. Texts of one estate
/// resemble each other whatever broke; where they point is what tells two kinds of incident apart.
const OTHER_DOCUMENTS: f32 = 0.50;
/// A correlation over fewer documents says nothing.
const FEW: usize = 4;

/// One voter may take up as many places of a page of ballots before others are asked for as well.
const PLACES_OF_ONE: usize = 5;
/// Pages of ballots that one question reads at most.
pub(crate) const PAGES: usize = 3;

/// One voter's word on one document, on one occasion. The same voter's later word on the same
/// occasion takes the place of the earlier one.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    /// A person (`TEAM/USER`), or what was measured.
    pub by: String,
    /// What it was given for, e.g. an incident's id.
    pub occasion: String,
    /// What was asked then: the symptoms, or a person's question.
    pub asked: String,
    pub helpful: bool,
    pub at: Timestamp,
    /// `Quarantined` when the policy does not know the voter: kept, but counted for nothing.
    pub trust: Trust,
}

/// What the votes say about each document for a question, -1 to 1 and never quite either.
#[derive(Debug, Default)]
pub(crate) struct Standing(HashMap<(Tenant, String), f32>);

impl Standing {
    /// `documents` are those that the question finds, before anybody's votes.
    pub fn of(asked: &Question, documents: &[Hit], ballots: &[Hit]) -> Self {
        let library = Library::of(documents);
        let ours = library.profile(&asked.dense, &asked.words.indices);
        let words: FxHashSet<u32> = asked.words.indices.iter().copied().collect();
        // By document, then by voter: how alike the occasion is, and what was said.
        let mut heard: HashMap<(Tenant, String), BTreeMap<&str, (f32, f32)>> = HashMap::new();
        for ballot in ballots {
            let chunk = &ballot.stored.chunk;
            let counts = match chunk.trust {
                Trust::Curated | Trust::Verified => true,
                Trust::Quarantined => false,
            };
            let resemblance = above(ANOTHER_STORY, resemblance(asked, &words, ballot));
            if !counts || resemblance <= 0.0 {
                continue;
            }
            let theirs = library.profile(&ballot.dense, &ballot.words);
            let alike = resemblance * agreement(&ours, &theirs).map_or(1.0, |agreed| above(OTHER_DOCUMENTS, agreed));
            if alike <= 0.0 {
                continue;
            }
            let of_document = heard.entry((chunk.tenant.clone(), chunk.doc.clone())).or_default();
            let word = (alike, if chunk.votes > 0 { alike } else { -alike });
            let known = of_document.entry(chunk.author.as_str()).or_insert(word);
            if word.0 > known.0 {
                *known = word;
            }
        }
        Self(
            heard
                .into_iter()
                .map(|(document, voters)| {
                    let net = agreed(voters.values().map(|(_, word)| *word));
                    (document, net * net.abs() / (net * net + HALFWAY * HALFWAY))
                })
                .collect(),
        )
    }

    pub fn on(&self, document: &(Tenant, String)) -> f32 {
        self.0.get(document).copied().unwrap_or(0.0)
    }

    /// Documents that helped on an occasion like this one.
    pub fn favoured(&self) -> Vec<String> {
        let mut favoured: Vec<String> =
            self.0.iter().filter(|(_, standing)| **standing > 0.0).map(|((_, doc), _)| doc.clone()).collect();
        favoured.sort();
        favoured
    }
}

/// Ups minus downs, where a lone voice against several is not heard: one person whom the policy
/// names, or whoever has taken that person's account, cannot undo what others agree on.
fn agreed(words: impl Iterator<Item = f32>) -> f32 {
    let (ups, downs): (Vec<f32>, Vec<f32>) = words.partition(|word| *word > 0.0);
    let heard = |side: &[f32], other: &[f32]| match (side.len(), other.len()) {
        (1, 2..) => 0.0,
        _ => side.iter().sum::<f32>(),
    };
    heard(&ups, &downs) + heard(&downs, &ups)
}

/// Ups minus downs of those who count, each voter once: their latest word.
pub(crate) fn net<'a>(ballots: impl Iterator<Item = &'a Chunk>) -> i64 {
    let mut latest: BTreeMap<&str, &Chunk> = BTreeMap::new();
    for ballot in ballots.filter(|ballot| ballot.trust != Trust::Quarantined) {
        let known = latest.entry(ballot.author.as_str()).or_insert(ballot);
        if ballot.at > known.at {
            *known = ballot;
        }
    }
    latest.values().map(|ballot| ballot.votes.signum()).sum()
}

/// Voters who fill so much of a full page of ballots that others may not have been heard.
pub(crate) fn crowding(page: &[Hit]) -> Vec<String> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for ballot in page {
        *places.entry(ballot.stored.chunk.author.as_str()).or_default() += 1;
    }
    let crowds = |places: usize| page.len() >= CANDIDATES && places > PLACES_OF_ONE;
    places.into_iter().filter(|(_, places)| crowds(*places)).map(|(voter, _)| voter.to_owned()).collect()
}

/// The mean of the cosine and of the words and concepts that both hold (Dice's coefficient).
fn resemblance(asked: &Question, ours: &FxHashSet<u32>, ballot: &Hit) -> f32 {
    let shared = ballot.words.iter().filter(|index| ours.contains(index)).count();
    let held = ours.len() + ballot.words.len();
    let dice = if held == 0 { 0.0 } else { 2.0 * shared as f32 / held as f32 };
    (cosine(&asked.dense, &ballot.dense).max(0.0) + dice) / 2.0
}

/// What two occasions are held against: the documents that the question finds. What nobody has
/// verified has no say in it.
struct Library<'a>(Vec<(&'a [f32], FxHashSet<u32>)>);

impl<'a> Library<'a> {
    fn of(documents: &'a [Hit]) -> Self {
        let trusted = documents.iter().filter(|hit| hit.stored.chunk.trust != Trust::Quarantined);
        Self(trusted.map(|hit| (hit.dense.as_slice(), hit.words.iter().copied().collect())).collect())
    }

    /// How much a text has to do with each document: the cosine and the share of its words and
    /// concepts that the document holds.
    fn profile(&self, dense: &[f32], words: &[u32]) -> Vec<f32> {
        let covered = |holds: &FxHashSet<u32>| {
            words.iter().filter(|index| holds.contains(index)).count() as f32 / words.len().max(1) as f32
        };
        self.0.iter().map(|(meaning, holds)| cosine(dense, meaning) + covered(holds)).collect()
    }
}

/// Pearson's correlation of two profiles: what all documents have in common with a text cancels
/// out. Nothing where there are too few documents, or where they do not differ.
fn agreement(a: &[f32], b: &[f32]) -> Option<f32> {
    if a.len() < FEW {
        return None;
    }
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let products = |a: &[f32], mean_a: f32, b: &[f32], mean_b: f32| -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum()
    };
    let spread = (products(a, mean_a, a, mean_a) * products(b, mean_b, b, mean_b)).sqrt();
    (spread > f32::EPSILON).then(|| products(a, mean_a, b, mean_b) / spread)
}

/// 0 up to the bound, 1 at 1.
fn above(bound: f32, value: f32) -> f32 {
    ((value - bound) / (1.0 - bound)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::chunk::Kind;
    use crate::memory::point::{Level, Stored, Words, stable_id};

    fn question(words: &[u32]) -> Question {
        let dense = (0..8).map(|at| if words.contains(&at) { 1.0 } else { 0.0 }).collect();
        let words = Words { indices: words.to_vec(), values: vec![1.0; words.len()] };
        Question { dense, words, spelled: Default::default(), concepts: Default::default() }
    }

    fn ballot(by: &str, doc: &str, helpful: bool, trust: Trust, words: &[u32]) -> Hit {
        let asked = question(words);
        let chunk = Chunk {
            kind: Kind::Runbook,
            doc: doc.into(),
            title: String::new(),
            heading: String::new(),
            about: String::new(),
            text: String::new(),
            alerts: vec![],
            advises: vec![],
            tenant: Tenant::everyone(),
            service: None,
            incident: None,
            author: by.into(),
            trust,
            votes: if helpful { 1 } else { -1 },
            at: Timestamp::from_secs(0),
        };
        Hit {
            id: stable_id(&chunk.tenant, doc, Level::Ballot, by, 0),
            fused: 1.0,
            dense: asked.dense,
            words: asked.words.indices,
            stored: Stored { chunk, level: Level::Ballot, part: 0, digest: String::new(), embedder: String::new() },
        }
    }

    fn standing(asked: &[u32], ballots: &[Hit]) -> f32 {
        Standing::of(&question(asked), &[], ballots).on(&(Tenant::everyone(), "a".to_owned()))
    }

    #[test]
    fn a_vote_speaks_for_like_questions_only() {
        let votes = [ballot("ann", "a", true, Trust::Verified, &[1, 2, 3])];
        assert!(standing(&[1, 2, 3], &votes) > standing(&[1, 2, 4], &votes));
        assert!(standing(&[1, 2, 4], &votes) > 0.0);
        assert_eq!(standing(&[5, 6, 7], &votes), 0.0);
    }

    /// A document that holds these words.
    fn document(doc: &str, words: &[u32]) -> Hit {
        ballot("platform", doc, true, Trust::Curated, words)
    }

    #[test]
    fn occasions_that_point_to_other_documents_are_another_story() {
        let votes = [ballot("ann", "a", true, Trust::Verified, &[1, 2, 3])];
        let one_kind = [document("a", &[1, 2, 3]), document("b", &[1, 2, 5]), document("c", &[6]), document("d", &[7])];
        let two_kinds =
            [document("a", &[1, 2, 3]), document("b", &[1, 4]), document("c", &[2, 4]), document("d", &[4])];
        let on = |documents: &[Hit]| {
            Standing::of(&question(&[1, 2, 4]), documents, &votes).on(&(Tenant::everyone(), "a".to_owned()))
        };
        assert!(on(&one_kind) > 0.0);
        assert_eq!(on(&two_kinds), 0.0);
    }

    #[test]
    fn one_voter_crowds_a_page_only_when_it_is_full() {
        let page = |others: usize, own: usize| -> Vec<Hit> {
            let others = (0..others).map(|number| ballot(&format!("p{number}"), "a", true, Trust::Verified, &[1]));
            others.chain((0..own).map(|_| ballot("ann", "a", true, Trust::Verified, &[1]))).collect()
        };
        assert_eq!(crowding(&page(CANDIDATES - 6, 6)), ["ann"]);
        assert!(crowding(&page(CANDIDATES - 5, 5)).is_empty());
        assert!(crowding(&page(CANDIDATES - 7, 6)).is_empty());
    }

    #[test]
    fn a_lone_voice_does_not_undo_what_others_agree_on() {
        let word = |by: &str, helpful| ballot(by, "a", helpful, Trust::Verified, &[1, 2]);
        let agreed = [word("ann", true), word("bob", true)];
        let against = [agreed.as_slice(), &[word("mallory", false)]].concat();
        assert_eq!(standing(&[1, 2], &against), standing(&[1, 2], &agreed));
        let split = [against.as_slice(), &[word("eve", false)]].concat();
        assert_eq!(standing(&[1, 2], &split), 0.0);
        assert_eq!(standing(&[1, 2], &[word("ann", true), word("eve", false)]), 0.0);
    }

    #[test]
    fn who_votes_often_counts_once() {
        let one = [ballot("ann", "a", true, Trust::Verified, &[1, 2])];
        let many: Vec<Hit> = (0..200).map(|_| ballot("ann", "a", true, Trust::Verified, &[1, 2])).collect();
        assert_eq!(standing(&[1, 2], &one), standing(&[1, 2], &many));
        let two = [one[0].clone(), ballot("bob", "a", true, Trust::Verified, &[1, 2])];
        assert!(standing(&[1, 2], &two) > standing(&[1, 2], &one));
    }

    proptest! {
        #[test]
        fn strangers_move_nothing_and_all_together_stay_within_bounds(
            votes in prop::collection::vec((0u8..40, any::<bool>(), any::<bool>(), prop::collection::vec(0u32..8, 1..4)), 0..120),
        ) {
            let all: Vec<Hit> = votes.iter().map(|(by, helpful, known, words)| {
                let trust = if *known { Trust::Verified } else { Trust::Quarantined };
                ballot(&format!("person {by}"), "a", *helpful, trust, words)
            }).collect();
            let known: Vec<Hit> = all.iter().filter(|hit| hit.stored.chunk.trust == Trust::Verified).cloned().collect();
            let of_all = standing(&[1, 2, 3], &all);
            prop_assert!(of_all.abs() < 1.0);
            prop_assert_eq!(of_all, standing(&[1, 2, 3], &known));
        }
    }
}
