//! How answers are ranked, and the reason that each carries. Pure.

use std::collections::HashMap;

use crate::memory::ballot::{Standing, VOTES};
use crate::memory::chunk::{Chunk, Kind, Tenant, Trust};
use crate::memory::index::Question;
use crate::memory::lexicon::split_names;
use crate::memory::point::{Hit, Level, Select};

/// Bounds of what may move a rank, on the scale of the score without them (0 to 1).
const NAMES_ALERT: f32 = 1.00;
const SAME_SERVICE: f32 = 0.10;
const QUARANTINED: f32 = 0.10;

const SHOWN_WORDS: usize = 5;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// What is known: symptoms, messages, a person's question.
    pub text: String,
    pub service: Option<String>,
    /// Names of the alerts that fire.
    pub alerts: Vec<String>,
    /// All kinds when empty.
    pub kinds: Vec<Kind>,
    /// Sees its own and everyone's.
    pub tenant: Tenant,
    pub limit: usize,
}

impl Query {
    /// One text for both indexes; `KubePodCrashLooping` is also said as its words.
    pub(crate) fn spoken(&self) -> String {
        let mut text = self.text.clone();
        for alert in &self.alerts {
            text.push('\n');
            text.push_str(alert);
            text.push(' ');
            text.push_str(&split_names(alert));
        }
        if let Some(service) = &self.service {
            text.push('\n');
            text.push_str(service);
        }
        text
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Recalled {
    pub chunk: Chunk,
    /// Orders the answers of one query; not comparable between queries.
    pub score: f32,
    /// How much the chunk has to do with the query, 0 to 1; comparable between queries.
    pub relevance: f32,
    /// For people: why it is here and why at this place.
    pub why: String,
}

/// Joins the answers among chunks and among documents: a chunk is as good as it and its document
/// are together, each as a share of the best of its kind.
pub(crate) fn rank(query: &Query, asked: &Question, found: Found) -> Vec<Recalled> {
    let standing = found.standing;
    let documents: HashMap<(Tenant, String), Hit> =
        shares(found.documents).map(|hit| (document_of(&hit.stored.chunk), hit)).collect();
    let mut hits: HashMap<_, Hit> = HashMap::new();
    // Chunks that only the alert's name or a vote has brought start without a place of their own.
    for hit in found.named.into_iter().map(|hit| Hit { fused: 0.0, ..hit }).chain(shares(found.chunks)) {
        hits.insert(hit.id, hit);
    }
    let mut judged: Vec<Judged> = hits
        .into_values()
        .map(|hit| {
            let document = documents.get(&document_of(&hit.stored.chunk));
            judge(query, asked, hit, document, &standing)
        })
        .collect();
    hold_quarantine_down(&mut judged);
    let mut ranked: Vec<Recalled> = judged.into_iter().map(|judged| judged.recalled).collect();
    // Equal scores: what is in quarantine last, then by name, so that the same question gets the
    // same answer.
    ranked.sort_by(|a, b| {
        let suspect = |recalled: &Recalled| recalled.chunk.trust == Trust::Quarantined;
        b.score.total_cmp(&a.score).then_with(|| suspect(a).cmp(&suspect(b))).then_with(|| {
            (&a.chunk.doc, &a.chunk.heading, &a.chunk.text).cmp(&(&b.chunk.doc, &b.chunk.heading, &b.chunk.text))
        })
    });
    ranked
}

/// What a backend is asked for one query.
pub(crate) struct Wanted {
    pub chunks: Select,
    pub documents: Select,
    pub ballots: Select,
    /// Where an alert is named, which documents name it too.
    pub named: Option<Select>,
    seen: Select,
}

impl Wanted {
    pub fn by(query: &Query) -> Self {
        let seen = Select::visible_to(&query.tenant, &query.kinds);
        Self {
            chunks: seen.clone().at(Level::Chunk),
            documents: seen.clone().at(Level::Document),
            // Votes that count for nothing must not crowd out those that do.
            ballots: seen.clone().at(Level::Ballot).trusted(),
            named: (!query.alerts.is_empty()).then(|| seen.clone().at(Level::Chunk).naming(&query.alerts)),
            seen,
        }
    }

    /// The documents that helped in a case like this one, wherever words would place them.
    pub fn favoured(&self, standing: &Standing) -> Option<Select> {
        let docs = standing.favoured();
        (!docs.is_empty()).then(|| Select { docs, ..self.seen.clone() }.at(Level::Chunk))
    }
}

/// What the backends found for one question.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub chunks: Vec<Hit>,
    pub documents: Vec<Hit>,
    /// Chunks of documents that the alert's name or a vote points to.
    pub named: Vec<Hit>,
    /// What votes that were given for questions like this one say.
    pub standing: Standing,
}

/// Scores as shares of the best one.
fn shares(hits: Vec<Hit>) -> impl Iterator<Item = Hit> {
    let best = hits.iter().map(|hit| hit.fused).fold(f32::MIN_POSITIVE, f32::max);
    hits.into_iter().map(move |hit| Hit { fused: (hit.fused / best).max(0.0), ..hit })
}

struct Judged {
    recalled: Recalled,
    /// The score without anybody's votes.
    unvoted: f32,
}

/// Whoever can write into a chat can vote. So what is in quarantine stays below every trusted
/// text that it would be below without votes, on either of the two.
fn hold_quarantine_down(judged: &mut [Judged]) {
    let suspect = |judged: &Judged| judged.recalled.chunk.trust == Trust::Quarantined;
    let trusted: Vec<(f32, f32)> =
        judged.iter().filter(|judged| !suspect(judged)).map(|judged| (judged.unvoted, judged.recalled.score)).collect();
    for held in judged.iter_mut().filter(|judged| suspect(judged)) {
        let above = trusted.iter().filter(|(unvoted, _)| *unvoted >= held.unvoted).map(|(_, score)| *score);
        held.recalled.score = above.fold(held.recalled.score, f32::min);
    }
}

fn judge(query: &Query, asked: &Question, hit: Hit, document: Option<&Hit>, standing: &Standing) -> Judged {
    let chunk = &hit.stored.chunk;
    let meaning = cosine(&asked.dense, &hit.dense).max(document.map_or(0.0, |hit| cosine(&asked.dense, &hit.dense)));
    let shared = shared_words(asked, &hit);
    let mut score = (hit.fused + document.map_or(0.0, |hit| hit.fused)) / 2.0;
    let mut relevance = relevance(meaning, shared.len(), asked.spelled.len());
    let mut why = Vec::new();

    if let Some(alert) = chunk.alerts.iter().find(|alert| query.alerts.contains(alert)) {
        score += NAMES_ALERT;
        relevance = relevance.max(0.5 + relevance / 2.0);
        why.push(format!("names the alert {alert}"));
    }
    if let Some(service) = chunk.service.as_ref().filter(|service| query.service.as_ref() == Some(service)) {
        score += SAME_SERVICE;
        why.push(format!("same service {service}"));
    }
    if chunk.trust == Trust::Quarantined {
        score -= QUARANTINED;
    }
    let meant: Vec<&str> = hit.words.iter().filter_map(|index| asked.concepts.get(index).copied()).collect();
    if !meant.is_empty() {
        let meant: Vec<String> = meant.iter().take(SHOWN_WORDS).map(|name| name.replace('_', " ")).collect();
        why.push(format!("speaks of {}", meant.join(", ")));
    }
    if !shared.is_empty() {
        why.push(format!("shares {}", shared.iter().take(SHOWN_WORDS).cloned().collect::<Vec<_>>().join(", ")));
    }
    why.push(format!("meaning {meaning:.2}"));
    match chunk.trust {
        Trust::Curated => {}
        Trust::Verified => why.push("verified by a person".into()),
        Trust::Quarantined => why.push("in quarantine: nobody has verified it".into()),
    }
    let votes = votes_term(chunk.trust, standing.on(&document_of(chunk)));
    if votes > 0.0 {
        why.push(format!("helped in a case like this ({votes:+.2})"));
    } else if votes < 0.0 {
        why.push(format!("did not help in a case like this ({votes:+.2})"));
    }
    let voted = score + votes;
    let recalled = Recalled { score: voted, relevance, why: why.join("; "), chunk: hit.stored.chunk };
    Judged { recalled, unvoted: score }
}

/// At most `VOTES` up or down; what is in quarantine can only sink.
fn votes_term(trust: Trust, standing: f32) -> f32 {
    match trust {
        Trust::Curated | Trust::Verified => VOTES * standing,
        Trust::Quarantined => VOTES * standing.min(0.0),
    }
}

/// Meaning (cosine) and the share of the query's words that are found again.
fn relevance(meaning: f32, shared: usize, words: usize) -> f32 {
    let covered = if words == 0 { 0.0 } else { shared as f32 / words as f32 };
    (0.6 * meaning.max(0.0) + 0.4 * covered).clamp(0.0, 1.0)
}

fn shared_words(asked: &Question, hit: &Hit) -> Vec<String> {
    let mut shared: Vec<String> = hit.words.iter().filter_map(|index| asked.spelled.get(index).cloned()).collect();
    // Long words say more than short ones.
    shared.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    shared.dedup();
    shared
}

/// Two chunks of the best document and one of each other, while others have something to say:
/// the right document is among the first three far more often than it is the first.
pub(crate) fn pick(ranked: Vec<Recalled>, limit: usize) -> Vec<Recalled> {
    let best = ranked.first().map(|first| document_of(&first.chunk));
    let mut taken: HashMap<(Tenant, String), usize> = HashMap::new();
    let (mut first, rest): (Vec<_>, Vec<_>) = ranked.into_iter().partition(|recalled| {
        let document = document_of(&recalled.chunk);
        let allowed = if best.as_ref() == Some(&document) { 2 } else { 1 };
        let of_document = taken.entry(document).or_default();
        *of_document += 1;
        *of_document <= allowed
    });
    first.extend(rest);
    first.truncate(limit);
    first
}

pub(crate) fn one_a_document(mut ranked: Vec<Recalled>, limit: usize) -> Vec<Recalled> {
    let mut seen = std::collections::HashSet::new();
    ranked.retain(|recalled| seen.insert(document_of(&recalled.chunk)));
    ranked.truncate(limit);
    ranked
}

fn document_of(chunk: &Chunk) -> (Tenant, String) {
    (chunk.tenant.clone(), chunk.doc.clone())
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    let norms = norm(a) * norm(b);
    if norms > 0.0 { dot / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_bounded() {
        for trust in [Trust::Curated, Trust::Verified, Trust::Quarantined] {
            for standing in [-1.0, -0.3, 0.0, 0.3, 1.0] {
                assert!(votes_term(trust, standing).abs() <= VOTES);
            }
        }
        assert_eq!(votes_term(Trust::Quarantined, 1.0), 0.0);
        assert!(votes_term(Trust::Quarantined, -0.3) < 0.0);
    }
}
