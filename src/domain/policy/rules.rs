//! Cedar: compiled once, asked in microseconds.
//!
//! Invariants: default deny, forbid wins; a forbid that cannot be evaluated refuses (Cedar would
//! skip it), while a permit that cannot be evaluated only does not permit, so that removing a permit
//! never widens access (S8).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Effect, Entities, Entity, EntityUid, PolicyId, PolicySet,
    Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use serde_json::Value;

pub const SCHEMA: &str = include_str!("schema.cedarschema");
/// Never taken away.
pub const CORE: &str = include_str!("core.cedar");
pub const DEFAULT: &str = include_str!("default.cedar");

#[derive(Clone)]
pub struct Rules {
    inner: Arc<Inner>,
}

struct Inner {
    set: PolicySet,
    schema: Schema,
    /// By id: forbids, and what people are told.
    known: BTreeMap<String, Known>,
    text: String,
}

struct Known {
    effect: Effect,
    because: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRules {
    #[error("the rules cannot be read: {0}")]
    Syntax(String),
    #[error("a rule has no @id(\"...\"), so a refusal could not name it: {0}")]
    Nameless(String),
    #[error("two rules are named {0}")]
    Twice(String),
    #[error("templates are not supported: {0}")]
    Template(String),
    #[error("the rules do not fit the schema: {0}")]
    Schema(String),
}

/// What a rule decides about.
pub struct Question<'a> {
    /// `Agent` or `Person`, and who.
    pub principal: (&'static str, &'a str),
    pub action: &'a str,
    /// Names the object in messages; its attributes decide.
    pub resource: &'a str,
    pub attributes: Vec<(&'static str, Attribute)>,
    /// As the schema's `Situation`.
    pub context: Value,
}

pub enum Attribute {
    Text(String),
    Texts(BTreeSet<String>),
    Flag(bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// By these permits.
    Allowed(Vec<String>),
    /// By these rules; empty when no permit applies.
    Denied(Vec<String>),
}

impl Rules {
    /// The core, and the user's own rules or the default ones.
    pub fn compile(own: Option<&str>) -> Result<Self, BadRules> {
        Self::of_texts(&[CORE, own.unwrap_or(DEFAULT)])
    }

    fn of_texts(texts: &[&str]) -> Result<Self, BadRules> {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| BadRules::Schema(error.to_string()))?;
        let mut set = PolicySet::new();
        let mut known = BTreeMap::new();
        for text in texts {
            let read = PolicySet::from_str(text).map_err(|error| BadRules::Syntax(error.to_string()))?;
            if let Some(template) = read.templates().next() {
                return Err(BadRules::Template(template.to_string()));
            }
            for policy in read.policies() {
                let id = policy.annotation("id").filter(|id| !id.is_empty());
                let id = id.ok_or_else(|| BadRules::Nameless(policy.to_string()))?.to_owned();
                let because = policy.annotation("because").unwrap_or_default().to_owned();
                if known.insert(id.clone(), Known { effect: policy.effect(), because }).is_some() {
                    return Err(BadRules::Twice(id));
                }
                let named = policy.new_id(PolicyId::new(&id));
                set.add(named).map_err(|error| BadRules::Syntax(error.to_string()))?;
            }
        }
        let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        if !result.validation_passed() {
            let said: Vec<String> = result.validation_errors().map(ToString::to_string).collect();
            return Err(BadRules::Schema(said.join("; ")));
        }
        Ok(Self { inner: Arc::new(Inner { set, schema, known, text: texts.join("\n") }) })
    }

    /// Everything that a decision depends on, for the version that an approval binds.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// The rules' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.inner.known.keys().map(String::as_str)
    }

    /// Without one rule: for proving that a permit less never widens access.
    #[cfg(test)]
    pub(super) fn without(&self, id: &str) -> Self {
        let mut set = self.inner.set.clone();
        set.remove_static(PolicyId::new(id)).unwrap();
        let known = self.inner.known.iter().filter(|(name, _)| *name != id);
        let known = known.map(|(id, one)| (id.clone(), Known { effect: one.effect, because: one.because.clone() }));
        let inner = Inner {
            set,
            schema: self.inner.schema.clone(),
            known: known.collect(),
            text: format!("{} without {id}", self.inner.text),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Permits only.
    #[cfg(test)]
    pub(super) fn permits(&self) -> Vec<String> {
        let permits = self.inner.known.iter().filter(|(_, known)| known.effect == Effect::Permit);
        permits.map(|(id, _)| id.clone()).collect()
    }

    /// Why a rule stands there, in its author's words, behind its name.
    pub fn explain(&self, ids: &[String]) -> String {
        if ids.is_empty() {
            return "no policy permits it".to_owned();
        }
        let said = ids.iter().map(|id| match self.inner.known.get(id).map(|known| known.because.as_str()) {
            Some(because) if !because.is_empty() => format!("policy {id}: {because}"),
            Some(_) | None => format!("policy {id}"),
        });
        said.collect::<Vec<_>>().join("; ")
    }

    pub fn ask(&self, question: &Question<'_>) -> Answer {
        let asked = match self.request(question) {
            Ok(asked) => asked,
            // What cannot be asked cannot be allowed.
            Err(why) => return Answer::Denied(vec![format!("schema ({why})")]),
        };
        let (request, entities) = asked;
        let response = Authorizer::new().is_authorized(&request, &self.inner.set, &entities);
        let failed: Vec<String> = response
            .diagnostics()
            .errors()
            .map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string())
            .filter(|id| self.inner.known.get(id).is_none_or(|known| known.effect == Effect::Forbid))
            .collect();
        let mut reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        reasons.sort();
        match response.decision() {
            Decision::Allow if failed.is_empty() => Answer::Allowed(reasons),
            Decision::Allow => Answer::Denied(failed),
            Decision::Deny => {
                reasons.extend(failed);
                Answer::Denied(reasons)
            }
        }
    }

    fn request(&self, question: &Question<'_>) -> Result<(Request, Entities), String> {
        let said = |error: &dyn fmt::Display| error.to_string();
        let uid = |kind: &str, id: &str| -> Result<EntityUid, String> {
            let kind = format!("Midwatch::{kind}").parse().map_err(|error| said(&error))?;
            Ok(EntityUid::from_type_name_and_id(kind, cedar_policy::EntityId::new(id)))
        };
        let principal = uid(question.principal.0, question.principal.1)?;
        let action = uid("Action", question.action)?;
        let resource = uid("Object", question.resource)?;
        let attributes: HashMap<String, RestrictedExpression> = question
            .attributes
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    Attribute::Text(text) => RestrictedExpression::new_string(text.clone()),
                    Attribute::Texts(texts) => {
                        RestrictedExpression::new_set(texts.iter().cloned().map(RestrictedExpression::new_string))
                    }
                    Attribute::Flag(flag) => RestrictedExpression::new_bool(*flag),
                };
                ((*name).to_owned(), value)
            })
            .collect();
        let object = Entity::new(resource.clone(), attributes, HashSet::new()).map_err(|error| said(&error))?;
        let who = Entity::new_no_attrs(principal.clone(), HashSet::new());
        let schema = &self.inner.schema;
        let entities = Entities::from_entities([object, who], Some(schema)).map_err(|error| said(&error))?;
        let context = Context::from_json_value(question.context.clone(), Some((schema, &action)))
            .map_err(|error| said(&error))?;
        let request = Request::new(principal, action, resource, context, Some(schema)).map_err(|error| said(&error))?;
        Ok((request, entities))
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.inner.known.keys()).finish()
    }
}
