//! The prompts and documents as templates, each with one typed view.
//!
//! Invariants: a template sees only what its view names, and a name that the view lacks is an
//! error, not an empty place; nothing is HTML-escaped, for nothing here becomes HTML; text of the
//! estate enters through `Untrusted` only, which fences it.

use std::path::Path;
use std::time::Duration;

use handlebars::Handlebars;
use serde::Serialize;

use crate::domain::diagnosis::Claim;
use crate::domain::evidence::Evidence;
use crate::domain::id::Digest;
use crate::domain::investigation::ToolSchema;
use crate::domain::investigation::team::Member;
use crate::domain::redact::redact;
use crate::domain::root_cause::Candidate;
use crate::domain::speciality::Speciality;
use crate::domain::time::Timestamp;

mod sample;

#[cfg(test)]
mod tests;

const SYSTEM: &str = "investigate/system";
const TEXT_REACT: &str = "investigate/text_react";
const SPECIALIST: &str = "investigate/specialist";
const RECAP: &str = "investigate/recap";
const TRIAGE: &str = "investigate/triage";
const BRIEF: &str = "investigate/brief";
const CONVERSE_SYSTEM: &str = "converse/system";
const CONVERSE_BRIEF: &str = "converse/brief";
const POST_MORTEM: &str = "post_mortem";
const UNTRUSTED: &str = "_partials/untrusted";

/// (name in the folder, what the templates call it, what midwatch carries).
const TEMPLATES: &[(&str, &str, &str)] = &[
    (UNTRUSTED, "untrusted", include_str!("../prompts/_partials/untrusted.hbs")),
    (SYSTEM, SYSTEM, include_str!("../prompts/investigate/system.hbs")),
    (TEXT_REACT, TEXT_REACT, include_str!("../prompts/investigate/text_react.hbs")),
    (SPECIALIST, SPECIALIST, include_str!("../prompts/investigate/specialist.hbs")),
    (TRIAGE, TRIAGE, include_str!("../prompts/investigate/triage.hbs")),
    (RECAP, RECAP, include_str!("../prompts/investigate/recap.hbs")),
    (BRIEF, BRIEF, include_str!("../prompts/investigate/brief.hbs")),
    (CONVERSE_SYSTEM, CONVERSE_SYSTEM, include_str!("../prompts/converse/system.hbs")),
    (CONVERSE_BRIEF, CONVERSE_BRIEF, include_str!("../prompts/converse/brief.hbs")),
    (POST_MORTEM, POST_MORTEM, include_str!("../prompts/post_mortem.hbs")),
];

pub struct Prompts {
    registry: Handlebars<'static>,
}

impl std::fmt::Debug for Prompts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(TEMPLATES.iter().map(|(file, _, _)| file)).finish()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    #[error("prompts.dir: {file} cannot be read: {why}")]
    File { file: String, why: std::io::Error },
    #[error("prompt {name}: {why}")]
    Template { name: &'static str, why: String },
}

impl Prompts {
    /// The built-in templates, each replaced by the file of the same name in `dir` when there is one.
    pub fn load(dir: Option<&Path>) -> Result<Self, PromptError> {
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(handlebars::no_escape);
        for (file, name, built_in) in TEMPLATES {
            let own = dir.map(|dir| dir.join(format!("{file}.hbs")));
            let text = match own.filter(|path| path.exists()) {
                Some(path) => std::fs::read_to_string(&path)
                    .map_err(|why| PromptError::File { file: path.display().to_string(), why })?,
                None => (*built_in).to_owned(),
            };
            let broken = |why: handlebars::TemplateError| PromptError::Template { name: file, why: why.to_string() };
            registry.register_template_string(name, text).map_err(broken)?;
        }
        let prompts = Self { registry };
        prompts.check()?;
        Ok(prompts)
    }

    /// Renders every template with a sample, so that a wrong name is found at the start and not at
    /// night. One line for `midwatch check`.
    pub fn check(&self) -> Result<String, PromptError> {
        self.system(&SystemView { text_mode: false })?;
        self.system(&SystemView { text_mode: true })?;
        self.text_react(&sample::text_react())?;
        for field in Speciality::ALL {
            self.specialist(&SpecialistView::of(field))?;
        }
        self.triage(&TriageView { text_mode: false })?;
        self.triage(&TriageView { text_mode: true })?;
        self.brief(&sample::brief())?;
        self.recap(&sample::brief())?;
        self.converse_system(&SystemView { text_mode: false })?;
        self.converse_system(&SystemView { text_mode: true })?;
        self.converse_brief(&sample::converse())?;
        self.post_mortem(&sample::post_mortem())?;
        Ok(format!("{} templates render", TEMPLATES.len()))
    }

    pub fn system(&self, view: &SystemView) -> Result<String, PromptError> {
        self.render(SYSTEM, view)
    }

    /// Who answers a question of people.
    pub fn converse_system(&self, view: &SystemView) -> Result<String, PromptError> {
        self.render(CONVERSE_SYSTEM, view)
    }

    pub fn converse_brief(&self, view: &ConverseView) -> Result<String, PromptError> {
        self.render(CONVERSE_BRIEF, view)
    }

    /// Follows the system prompt in text mode.
    pub fn text_react(&self, view: &TextReactView) -> Result<String, PromptError> {
        self.render(TEXT_REACT, view)
    }

    /// Follows the system prompt of a specialist.
    pub fn specialist(&self, view: &SpecialistView) -> Result<String, PromptError> {
        self.render(SPECIALIST, view)
    }

    pub fn triage(&self, view: &TriageView) -> Result<String, PromptError> {
        self.render(TRIAGE, view)
    }

    pub fn brief(&self, view: &BriefView) -> Result<String, PromptError> {
        self.render(BRIEF, view)
    }

    /// The brief in few words, for a model that has read it: three candidates, what speaks for each
    /// most, and which evidence there is.
    pub fn recap(&self, view: &BriefView) -> Result<String, PromptError> {
        const CANDIDATES: usize = 3;
        const SUPPORTS: usize = 1;
        let mut short = view.clone();
        short.candidates.truncate(CANDIDATES);
        short.candidates.iter_mut().for_each(|candidate| candidate.supports.truncate(SUPPORTS));
        self.render(RECAP, &short)
    }

    /// Markdown.
    pub fn post_mortem(&self, view: &PostMortemView) -> Result<String, PromptError> {
        self.render(POST_MORTEM, view)
    }

    fn render<V: Serialize>(&self, name: &'static str, view: &V) -> Result<String, PromptError> {
        self.registry.render(name, view).map_err(|why| PromptError::Template { name, why: why.to_string() })
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct SystemView {
    pub text_mode: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct TriageView {
    pub text_mode: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct SpecialistView {
    pub name: &'static str,
    pub kubernetes: bool,
    pub database: bool,
    pub network: bool,
    pub application: bool,
}

impl SpecialistView {
    pub fn of(field: Speciality) -> Self {
        Self {
            name: Member::Specialist(field).name(),
            kubernetes: field == Speciality::Kubernetes,
            database: field == Speciality::Database,
            network: field == Speciality::Network,
            application: field == Speciality::Application,
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct TextReactView {
    pub tools: Vec<ToolView>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ToolView {
    pub name: String,
    pub description: String,
    /// JSON schema as text.
    pub parameters: String,
}

impl ToolView {
    pub fn of(schema: &ToolSchema) -> Self {
        Self {
            name: schema.name.clone(),
            description: schema.description.clone(),
            parameters: schema.parameters["properties"].to_string(),
        }
    }
}

/// Text of the estate: redacted, stripped, and between marks that it cannot contain.
#[derive(Debug, Clone, Serialize)]
pub struct Untrusted {
    marker: String,
    source: String,
    text: String,
}

impl Untrusted {
    pub fn new(source: &str, text: &str) -> Self {
        let text = redact(text).trim_end().to_owned();
        let source = redact(source).replace(['<', '>', '\n'], " ");
        Self { marker: Digest::of(text.as_bytes()).short().to_owned(), source, text }
    }
}

/// A name or sentence that stands outside a fence: it must not begin a line of its own.
pub fn one_line(text: &str) -> String {
    redact(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[derive(Debug, Clone, Serialize)]
pub struct BriefView {
    pub incident: String,
    pub title: String,
    pub severity: String,
    pub cluster: String,
    pub since: String,
    pub now: String,
    pub alerts: Untrusted,
    pub candidates: Vec<CandidateView>,
    pub changes: Option<Untrusted>,
    /// `cart needs db, session; is needed by web`
    pub topology: Vec<String>,
    pub evidence: Vec<EvidenceView>,
    pub runbooks: Vec<Untrusted>,
    pub past: Vec<Untrusted>,
    /// What people on call have said about earlier plans: why not, or what they want to know.
    pub said: Vec<Untrusted>,
    /// Whether memory could be asked at all.
    pub memory: bool,
    pub steps: u32,
    pub tool_calls: u32,
    pub minutes: u64,
}

/// A question of people, with what is known of what it is about.
#[derive(Debug, Clone, Serialize)]
pub struct ConverseView {
    pub by: String,
    pub question: Untrusted,
    pub now: String,
    /// `None`: it is about the estate, and what follows up to `evidence` is empty.
    pub incident: Option<String>,
    pub title: String,
    pub severity: String,
    pub state: String,
    pub since: String,
    pub diagnosis: Option<String>,
    pub plans: Vec<String>,
    pub candidates: Vec<CandidateView>,
    pub evidence: Vec<EvidenceView>,
    pub open: Vec<String>,
    pub services: String,
    pub steps: u32,
    pub tool_calls: u32,
    pub seconds: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct CandidateView {
    pub rank: usize,
    pub node: String,
    pub change: Option<String>,
    pub score: String,
    pub supports: Vec<ClaimView>,
    pub contradicts: Vec<ClaimView>,
}

impl CandidateView {
    pub fn of(rank: usize, candidate: &Candidate) -> Self {
        Self {
            rank,
            node: one_line(&candidate.node),
            change: candidate.change.as_deref().map(one_line),
            score: format!("{:.2}", candidate.score),
            // The strongest come first; the whole ranking is kept with the incident.
            supports: candidate.supports.iter().take(4).map(ClaimView::of).collect(),
            contradicts: candidate.contradicts.iter().take(2).map(ClaimView::of).collect(),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct PostMortemView {
    pub id: String,
    pub title: String,
    pub severity: String,
    pub severity_because: String,
    pub cluster: String,
    pub since: String,
    /// Empty: not over.
    pub lasted: String,
    pub symptoms: String,
    pub cause: String,
    pub change: Option<String>,
    pub mechanism: String,
    pub confidence: String,
    pub claims: Vec<ClaimView>,
    pub ruled_out: Vec<ClaimView>,
    /// Who found the diagnosis wrong, and why.
    pub people: Vec<String>,
    pub remedy: String,
    pub actions: Vec<ActionView>,
    pub evidence: Vec<EvidenceView>,
    pub timeline: Vec<PostMortemMoment>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ClaimView {
    pub text: String,
    /// `E3, E5`
    pub marks: String,
}

impl ClaimView {
    pub fn of(claim: &Claim) -> Self {
        let marks: Vec<_> = claim.evidence.iter().map(|id| id.mark()).collect();
        Self { text: one_line(&claim.text), marks: marks.join(", ") }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct ActionView {
    pub action: String,
    pub outcome: String,
    pub approved_by: String,
    pub facts: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct EvidenceView {
    pub mark: String,
    pub source: String,
    pub summary: String,
    /// When it was seen, unless that was just now.
    pub seen: Option<String>,
}

/// Of each piece of evidence, in the list that a brief gives of it.
const SUMMARY: usize = 90;
const JUST_NOW: Duration = Duration::from_secs(600);

impl EvidenceView {
    pub fn of(evidence: &Evidence, event_now: Timestamp) -> Self {
        let at = evidence.observed_at;
        Self {
            seen: (event_now.since(at) > JUST_NOW).then(|| at.clock_near(event_now)),
            mark: evidence.id.mark().to_owned(),
            source: evidence.source.clone(),
            summary: one_line(&evidence.summary).chars().take(SUMMARY).collect(),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct PostMortemMoment {
    pub at: String,
    pub text: String,
}
