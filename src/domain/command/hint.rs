//! What may come next, while somebody still types.

use super::{Slot, Verb};

/// What exists, for hints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub services: Vec<String>,
    pub namespaces: Vec<String>,
    /// Name and title.
    pub incidents: Vec<(String, String)>,
    /// What the cards that wait for a decision are called, and their action.
    pub cards: Vec<(String, String)>,
    pub silences: Vec<String>,
    pub notes: Vec<String>,
    pub people: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Hint {
    /// The whole command line after the hint is taken.
    pub text: String,
    pub about: String,
}

const MOST: usize = 12;

/// At most twelve ways to go on from `text`, what begins like it first.
pub fn hints(text: &str, known: &Known) -> Vec<Hint> {
    let text = text.trim_start();
    let text = text.strip_prefix("/ops").map_or(text, str::trim_start);
    let Some((word, _)) = text.split_once(char::is_whitespace) else {
        return verbs(text);
    };
    let Some(verb) = Verb::named(word) else { return vec![] };
    let last = text.rfind(char::is_whitespace).map_or(0, |at| at + text[at..].chars().next().map_or(0, char::len_utf8));
    let (typed, partial) = text.split_at(last);
    let spec = verb.spec();
    let is_option = |word: &str| spec.options.iter().any(|option| word.starts_with(option));
    let words: Vec<&str> = typed.split_whitespace().skip(1).collect();
    let place = words.iter().filter(|word| !is_option(word)).count();
    let mut found = vec![];
    let mut offer = |word: &str, about: &str| {
        if begins(word, partial) {
            let space = if word.ends_with('=') { "" } else { " " };
            found.push(Hint { text: format!("{typed}{word}{space}"), about: about.to_owned() });
        }
    };
    if let Some(option) = spec.options.iter().find(|option| partial.starts_with(**option)) {
        for value in values_of(option, known) {
            offer(&format!("{option}{value}"), "");
        }
        found.truncate(MOST);
        return found;
    }
    match spec.slots.get(place) {
        None | Some(Slot::Text) => {}
        Some(Slot::Word(words)) => words.iter().for_each(|word| offer(word, "")),
        Some(Slot::Verb) => Verb::ALL.into_iter().for_each(|verb| offer(verb.name(), verb.spec().about)),
        Some(Slot::Service) => known.services.iter().for_each(|name| offer(name, "service")),
        Some(Slot::Matchers) => known.services.iter().for_each(|name| offer(&format!("service=\"{name}\""), "")),
        Some(Slot::Incident | Slot::Anything) => known.incidents.iter().for_each(|(id, title)| offer(id, title)),
        Some(Slot::Card) => known.cards.iter().for_each(|(card, action)| offer(card, action)),
        Some(Slot::Silence) => known.silences.iter().for_each(|id| offer(id, "silence")),
        Some(Slot::Note) => {
            known.notes.iter().for_each(|id| offer(id, "note"));
            known.incidents.iter().for_each(|(id, title)| offer(id, title));
        }
        Some(Slot::Person) => known.people.iter().for_each(|person| offer(person, "person")),
    }
    for option in spec.options.iter().filter(|option| !words.iter().any(|word| word.starts_with(**option))) {
        offer(option, "");
    }
    found.truncate(MOST);
    found
}

fn verbs(partial: &str) -> Vec<Hint> {
    let of = |verb: Verb| {
        let spec = verb.spec();
        let space = if spec.slots.is_empty() { "" } else { " " };
        Hint {
            text: format!("{}{space}", verb.name()),
            about: format!("{} {}: {}", verb.name(), spec.form, spec.about),
        }
    };
    let lower = partial.to_lowercase();
    let mut found: Vec<Hint> = Verb::ALL
        .into_iter()
        .filter(|verb| verb.spec().names.iter().any(|name| name.starts_with(&lower)))
        .map(of)
        .collect();
    if found.is_empty() {
        let names = || Verb::ALL.into_iter().flat_map(|verb| verb.spec().names.iter().copied());
        found.extend(super::nearest(partial, names()).and_then(Verb::named).map(of));
    }
    // All of them when nothing is typed yet: this is the list of what can be done.
    if !partial.is_empty() {
        found.truncate(MOST);
    }
    found
}

fn values_of<'a>(option: &str, known: &'a Known) -> Vec<&'a str> {
    match option {
        "ns=" => known.namespaces.iter().map(String::as_str).collect(),
        "service=" => known.services.iter().map(String::as_str).collect(),
        "since=" => vec!["15m", "30m", "1h", "6h"],
        _ => vec![],
    }
}

fn begins(word: &str, partial: &str) -> bool {
    word.len() >= partial.len()
        && word.is_char_boundary(partial.len())
        && word[..partial.len()].eq_ignore_ascii_case(partial)
}
