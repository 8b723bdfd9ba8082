//! Words to a command, or why not and what was probably meant.

use std::collections::BTreeSet;
use std::time::Duration;

use super::typed::{bare, double_quoted, plain, without_courtesy};
use super::{ChannelAct, Command, LONGEST_SILENCE, NO_REASON, Scope, Verb, Which};
use crate::domain::id::IncidentId;
use crate::domain::intent::matcher::Matchers;
use crate::domain::intent::silence::Consent;
use crate::domain::time::{parse_span, spoken};

/// Not understood: why, what was probably meant, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Wrong {
    pub why: String,
    /// A whole command that is understood.
    pub did_you_mean: Option<String>,
    pub example: String,
}

/// What is too far from every word is no typing error.
const FAR: usize = 3;

/// Reads what follows `/ops`.
pub fn parse(text: &str) -> Result<Command, Wrong> {
    let text = plain(text);
    let (word, rest) = first_word(without_prefix(&text));
    let is_asked = bare(word).eq_ignore_ascii_case("please");
    let (word, rest) = if is_asked { first_word(rest) } else { (word, rest) };
    let word = bare(word);
    if word.is_empty() {
        return Ok(Command::Help { about: None });
    }
    let Some(verb) = Verb::named(word) else {
        return Err(unknown(word, rest));
    };
    if is_asked && matches!(verb, Verb::Approve | Verb::Reject | Verb::Ask | Verb::Act) {
        return Err(Wrong {
            why: "what decides on plans is written as it is, with nothing before it".to_owned(),
            did_you_mean: None,
            example: verb.spec().examples[0].to_owned(),
        });
    }
    read(verb, rest).map_err(|why| {
        let did_you_mean = corrected(verb, rest).filter(|better| read(verb, better).is_ok());
        Wrong {
            why,
            did_you_mean: did_you_mean.map(|better| format!("{} {better}", verb.name())),
            example: verb.spec().examples[0].to_owned(),
        }
    })
}

/// The word that is most like it, if any is near enough.
pub fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = (word.chars().count() / 2).clamp(1, FAR);
    words.map(|known| (edits(known, &word), known)).min().filter(|(edits, _)| *edits <= most).map(|(_, known)| known)
}

/// What must not be offered to whoever meant something else: a tired person takes the offer.
const GRAVE: [Verb; 8] =
    [Verb::Resume, Verb::Act, Verb::Approve, Verb::Forget, Verb::Noise, Verb::Close, Verb::Silence, Verb::Take];

/// Words of other tools for what a person closes with a reason here.
const ENDS: [&str; 5] = ["resolved", "closed", "done", "end", "finish"];
/// For giving back what was taken.
const GIVES_BACK: [&str; 6] = ["unack", "unacknowledge", "release", "untake", "unclaim", "unassign"];

fn unknown(word: &str, rest: &str) -> Wrong {
    if ENDS.iter().any(|end| word.eq_ignore_ascii_case(end)) {
        return Wrong {
            why: "an incident closes when its alerts end, or when somebody closes it and says why; one that nobody \
                  had to wake up for is called noise"
                .to_owned(),
            did_you_mean: None,
            example: Verb::Close.spec().examples[0].to_owned(),
        };
    }
    if GIVES_BACK.iter().any(|back| word.eq_ignore_ascii_case(back)) {
        return Wrong {
            why: "an incident that was taken is not given back: somebody else takes it, or it is handed over"
                .to_owned(),
            did_you_mean: None,
            example: Verb::HandOver.spec().examples[0].to_owned(),
        };
    }
    if word.eq_ignore_ascii_case("mine") {
        return Wrong {
            why: "which one? take INC-1 makes it yours (in its thread `mine` is enough); incidents mine lists yours"
                .to_owned(),
            did_you_mean: None,
            example: Verb::Take.spec().examples[0].to_owned(),
        };
    }
    let names = || Verb::ALL.into_iter().flat_map(|verb| verb.spec().names.iter().copied());
    let verb = nearest(word, names()).filter(|name| {
        let is_grave = Verb::named(name).is_some_and(|verb| GRAVE.contains(&verb));
        !is_grave || edits(name, &word.to_lowercase()) == 1
    });
    let verb = verb.and_then(Verb::named);
    let shown: String = word.chars().take(40).collect();
    let Some(verb) = verb else {
        return Wrong {
            why: format!("I don't know the command {shown:?}"),
            did_you_mean: None,
            example: "help".to_owned(),
        };
    };
    let whole = format!("{} {rest}", verb.name()).trim().to_owned();
    let better = if read(verb, rest).is_ok() {
        Some(whole)
    } else {
        corrected(verb, rest).filter(|rest| read(verb, rest).is_ok()).map(|rest| format!("{} {rest}", verb.name()))
    };
    Wrong {
        why: format!("I don't know the command {shown:?}"),
        did_you_mean: Some(better.unwrap_or_else(|| verb.name().to_owned())),
        example: verb.spec().examples[0].to_owned(),
    }
}

/// The same words with the names of options that are nearly right put right.
fn corrected(verb: Verb, rest: &str) -> Option<String> {
    let options = verb.spec().options;
    let mut changed = false;
    let words: Vec<String> = rest
        .split_whitespace()
        .map(|word| match word.split_once('=') {
            Some((name, value))
                if !options.is_empty() && !options.iter().any(|known| known[..known.len() - 1] == *name) =>
            {
                match nearest(name, options.iter().map(|option| option.trim_end_matches('='))) {
                    Some(known) => {
                        changed = true;
                        format!("{known}={value}")
                    }
                    None => word.to_owned(),
                }
            }
            _ => word.to_owned(),
        })
        .collect();
    if changed {
        return Some(words.join(" "));
    }
    // `incidents mien`, `channel INC-1 opne`: words of a fixed set.
    let fixed = verb.spec().slots.iter().flat_map(|slot| match slot {
        super::Slot::Word(words) => words.iter().copied(),
        _ => [].iter().copied(),
    });
    let fixed: Vec<&str> = fixed.collect();
    let words: Vec<String> = words
        .into_iter()
        .map(|word| match nearest(&word, fixed.iter().copied()) {
            Some(known) if known != word && word.chars().count() > 2 => {
                changed = true;
                known.to_owned()
            }
            _ => word,
        })
        .collect();
    changed.then(|| words.join(" "))
}

fn read(verb: Verb, rest: &str) -> Result<Command, String> {
    match verb {
        Verb::Help => match rest {
            "" => Ok(Command::Help { about: None }),
            word => match Verb::named(bare(word)) {
                Some(verb) => Ok(Command::Help { about: Some(verb) }),
                None => Err(format!("there is no command {word:?}")),
            },
        },
        Verb::Status => nothing_more(rest, Command::Status),
        Verb::Silences => nothing_more(rest, Command::Silences),
        Verb::Incidents => match bare(rest).to_lowercase().as_str() {
            "" | "open" => Ok(Command::Incidents { which: Which::Open }),
            "mine" => Ok(Command::Incidents { which: Which::Mine }),
            other => Err(format!("incidents are open or mine, not {other:?}")),
        },
        Verb::Diagnose => {
            let (service, options) = one_with_options(verb, rest, "a service")?;
            let since = options.get("since").map(span_of).transpose()?;
            Ok(Command::Diagnose { service, namespace: options.get("ns").map(str::to_owned), since })
        }
        Verb::Risk => {
            let (service, options) = one_with_options(verb, rest, "a service")?;
            Ok(Command::Risk { service, image: options.get("image").map(str::to_owned) })
        }
        Verb::Explain => Ok(Command::Explain { what: some(unmarked(rest), "explain needs something to explain")? }),
        Verb::Runbook => Ok(Command::Runbook { words: some(rest, "runbook needs words to look for")? }),
        Verb::OnCall => match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => Ok(Command::OnCall { service: None }),
            [service] => Ok(Command::OnCall { service: Some(bare(service).to_owned()) }),
            _ => Err("oncall takes one service".into()),
        },
        Verb::Audit if rest.is_empty() => Ok(Command::Audit { incident: None }),
        Verb::Audit => Ok(Command::Audit { incident: Some(incident(without_courtesy(rest))?) }),
        Verb::Silence if rest.is_empty() => Ok(Command::Silences),
        Verb::Silence => silence(rest),
        Verb::Unsilence => Ok(Command::Unsilence { id: one_word(rest, "unsilence needs the id of a silence")? }),
        Verb::Remember => remember(rest),
        Verb::Forget => Ok(Command::Forget { id: one_word(rest, "forget needs the id of a note")? }),
        Verb::Pause => {
            // Whatever is wrong with the scope, something is to be stopped.
            let (scope, because) = scope_and_rest(rest).unwrap_or((Scope::All, rest));
            let because = some(after_because(because), NO_REASON).unwrap_or_else(|none| none);
            Ok(Command::Pause { scope, because })
        }
        Verb::Resume => match scope_and_rest(without_courtesy(rest))? {
            (scope, "") => Ok(Command::Resume { scope }),
            (_, more) => Err(format!("resume takes all, ns=.. or service=.., not {more:?}")),
        },
        Verb::Merge => {
            let (head, because) = with_reason(rest, "a merge")?;
            let (from, into) = around(head, "into").ok_or("a merge names two incidents: <INC-2> into <INC-1>")?;
            let (from, into) = (incident(from)?, incident(into)?);
            if from == into {
                return Err(format!("{from} cannot go into itself"));
            }
            Ok(Command::Merge { from, into, because })
        }
        Verb::Split => {
            let (head, because) = with_reason(rest, "a split")?;
            let (from, subjects) = first_word(head);
            let (from, subjects) = (incident(from)?, names(subjects));
            if subjects.is_empty() {
                return Err("a split names the services or hosts that leave".into());
            }
            Ok(Command::Split { from, subjects, because })
        }
        Verb::Noise => {
            let (head, because) = with_reason(rest, "noise")?;
            Ok(Command::Noise { incident: incident(head)?, because })
        }
        Verb::Close => {
            let (word, because) = first_word(rest);
            let incident = incident(word)?;
            Ok(Command::Close {
                incident,
                because: some(after_because(because), "to close an incident needs a reason")?,
            })
        }
        Verb::Take => Ok(Command::Take { incident: incident(without_courtesy(rest))? }),
        Verb::HandOver => hand_over(rest),
        Verb::Channel => channel(rest),
        Verb::FollowUp => {
            let (word, text) = first_word(rest);
            Ok(Command::FollowUp {
                incident: incident(word)?,
                text: some(text, "a follow-up says what is to be done")?,
            })
        }
        Verb::Approve => Ok(Command::Approve { card: one_word(rest, "approve needs the plan and digest of a card")? }),
        Verb::Reject => {
            let (card, because) = first_word(rest);
            let card = some(bare(card), "reject needs the plan and digest of a card")?;
            Ok(Command::Reject { card, because: some(after_because(because), "a rejection needs a reason")? })
        }
        Verb::Act => Ok(Command::Act { asked: rest.split_whitespace().collect::<Vec<_>>().join(" ") }),
        Verb::Autonomy => match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => Ok(Command::Autonomy { asked: String::new() }),
            [word @ ("promote" | "demote"), service, action] => {
                Ok(Command::Autonomy { asked: format!("{word} {service} {action}") })
            }
            _ => Err("autonomy is shown, or promotes or demotes one action of one service".to_owned()),
        },
        Verb::Ask => {
            let (card, question) = first_word(rest);
            let card = some(bare(card), "ask needs the plan and digest of a card")?;
            Ok(Command::Ask { card, question: some(question, "ask needs a question")? })
        }
    }
}

/// `<matchers> [for] <span> [because] <reason>[, confirmed]`
fn silence(rest: &str) -> Result<Command, String> {
    let rest = double_quoted(rest);
    let (matchers, span, reason) =
        around_span(&rest).ok_or("a silence needs a time of at most 24h, such as 30m or 2h, behind its matchers")?;
    let reason = after_because(reason);
    // With its comma: a reason may well end in that word.
    let consented = strip_last_word(reason.trim_end_matches(['.', '!']), "confirmed");
    let consented = consented.and_then(|because| because.trim_end().strip_suffix(','));
    let (because, consent) = match consented {
        Some(because) => (because.trim_end(), Consent::Confirmed),
        None => (reason, Consent::Ask),
    };
    let because = some(because, "a silence needs a reason")?;
    // `service=checkout instance=web-1`, as amtool takes it.
    let words: Vec<&str> = matchers.split_whitespace().collect();
    let is_bare = !matchers.contains(['"', ',', '{']) && words.iter().all(|word| word.contains('='));
    let matchers = if is_bare { words.join(",") } else { matchers.to_owned() };
    let matchers = Matchers::parse(&matchers).map_err(|bad| bad.to_string())?;
    if span > LONGEST_SILENCE {
        let most = spoken(LONGEST_SILENCE);
        return Err(format!("a silence lasts {most} at most; plan a window in the configuration"));
    }
    Ok(Command::Silence { matchers, span, because, consent })
}

/// The first word outside quotes that is a span of time, with what stands before (without `for`) and behind.
fn around_span(text: &str) -> Option<(&str, Duration, &str)> {
    let mut quoted = false;
    let mut escaped = false;
    let mut start = None;
    let ends = text.char_indices().chain([(text.len(), ' ')]);
    for (at, char) in ends {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                start = start.or(Some(at));
            }
            char if char.is_whitespace() && !quoted => {
                if let Some(from) = start.take()
                    && from > 0
                    && let Some(span) = parse_span(&text[from..at])
                {
                    let before = text[..from].trim();
                    let before = strip_last_word(before, "for").unwrap_or(before).trim();
                    return Some((before, span, text[at..].trim()));
                }
            }
            _ => start = start.or(Some(at)),
        }
    }
    None
}

fn remember(rest: &str) -> Result<Command, String> {
    let (mut text, mut service) = (rest, None);
    if let Some((before, last)) = last_word(rest)
        && let Some(name) = last.strip_prefix("service=")
    {
        (text, service) = (before, Some(some(name, "service= names a service")?));
    }
    Ok(Command::Remember { text: some(text, "remember needs something to remember")?, service })
}

fn hand_over(rest: &str) -> Result<Command, String> {
    let (head, because) = match at_word(rest, "because") {
        Some((head, because)) => (head, Some(some(because, "because wants a reason behind it")?)),
        None => (rest, None),
    };
    let words: Vec<&str> = head.split_whitespace().collect();
    let (id, to) = match words.as_slice() {
        [id, to] => (id, to),
        [id, word, to] if word.eq_ignore_ascii_case("to") => (id, to),
        _ => return Err("a hand-over names an incident and one person: <INC-1> to <person>".into()),
    };
    Ok(Command::HandOver { incident: incident(id)?, to: bare(to).to_owned(), because })
}

fn channel(rest: &str) -> Result<Command, String> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [id, act @ ..] = words.as_slice() else {
        return Err("channel needs an incident".into());
    };
    let incident = incident(id)?;
    let act = match act {
        [] => ChannelAct::Open,
        [word] if word.eq_ignore_ascii_case("open") => ChannelAct::Open,
        [word] if word.eq_ignore_ascii_case("archive") => ChannelAct::Archive,
        [word] if word.eq_ignore_ascii_case("invite") => return Err("invite names the people to invite".into()),
        [word, people @ ..] if word.eq_ignore_ascii_case("invite") => {
            ChannelAct::Invite { people: people.iter().map(|one| (*one).to_owned()).collect() }
        }
        [other, ..] => return Err(format!("a channel is opened, invited to or archived, not {other:?}")),
    };
    Ok(Command::Channel { incident, act })
}

#[derive(Default)]
struct Options(Vec<(&'static str, String)>);

impl Options {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

fn one_with_options(verb: Verb, rest: &str, what: &str) -> Result<(String, Options), String> {
    let mut options = Options::default();
    let mut words = vec![];
    for word in rest.split_whitespace() {
        let Some((name, value)) = word.split_once('=') else {
            words.push(word);
            continue;
        };
        let known = verb.spec().options.iter().map(|option| option.trim_end_matches('=')).find(|known| *known == name);
        match known {
            None => return Err(format!("{} has no option {name}=", verb.name())),
            Some(known) if value.is_empty() => return Err(format!("{known}= has nothing behind it")),
            Some(known) if options.get(known).is_some() => return Err(format!("{known}= is given twice")),
            Some(known) => options.0.push((known, value.to_owned())),
        }
    }
    match words.as_slice() {
        [one] => Ok((bare(one).to_owned(), options)),
        [] => Err(format!("{} needs {what}", verb.name())),
        more => Err(format!("{} takes {what}, and {} were given", verb.name(), more.len())),
    }
}

fn scope_and_rest(rest: &str) -> Result<(Scope, &str), String> {
    let (word, behind) = first_word(rest);
    if ["all", "everything"].iter().any(|all| bare(word).eq_ignore_ascii_case(all)) {
        return Ok((Scope::All, behind));
    }
    let Some((key, value)) = rest.trim().split_once('=').filter(|(key, _)| word.starts_with(*key)) else {
        return Ok((Scope::All, rest));
    };
    let scope: fn(String) -> Scope = match key.to_ascii_lowercase().as_str() {
        "ns" | "namespace" => Scope::Namespace,
        "service" => Scope::Service,
        _ => return Ok((Scope::All, rest)),
    };
    let (name, behind) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => match quoted(value, quote) {
            Some(read) => read,
            // Half a name would be another one.
            None => return Ok((Scope::All, rest)),
        },
        _ => first_word(value),
    };
    let name = name.trim_start_matches(|char: char| char.is_whitespace() || "\"'".contains(char));
    let name = name.trim_end_matches(|char: char| char.is_whitespace() || "\"'.,;:!?".contains(char));
    Ok((scope(some(name, &format!("{key}= has nothing behind it"))?), behind))
}

/// What stands within quotes at the beginning, and what behind them; `None` when they end nowhere, or
/// within a word.
fn quoted(text: &str, quote: char) -> Option<(&str, &str)> {
    let (name, behind) = text[1..].split_once(quote)?;
    let behind = behind.trim_start_matches([',', '.', ';', ':', '!', '?']);
    behind.chars().next().is_none_or(char::is_whitespace).then(|| (name, behind.trim()))
}

fn names(text: &str) -> Vec<String> {
    let by = |separator: fn(char) -> bool| -> BTreeSet<String> {
        text.split(separator).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    // A name with blanks in it stands between commas.
    let names = if text.contains(',') { by(|char| char == ',') } else { by(char::is_whitespace) };
    names.into_iter().collect()
}

fn incident(text: &str) -> Result<IncidentId, String> {
    let text = text.trim();
    IncidentId::parse(bare(text)).ok_or_else(|| match text {
        "" => "an incident is missing".to_owned(),
        text => format!("{text:?} names no incident"),
    })
}

fn with_reason<'a>(rest: &'a str, what: &str) -> Result<(&'a str, String), String> {
    let (head, because) = at_word(rest, "because").ok_or_else(|| format!("{what} needs a reason: because .."))?;
    Ok((head, some(because, &format!("{what} needs a reason"))?))
}

fn span_of(text: &str) -> Result<Duration, String> {
    parse_span(text).ok_or_else(|| format!("{text:?} is not a time; write for example 30m, 2h or 1d"))
}

fn nothing_more(rest: &str, command: Command) -> Result<Command, String> {
    match without_courtesy(rest) {
        "" => Ok(command),
        more => Err(format!("{} takes nothing more, and {more:?} was given", command.verb().name())),
    }
}

fn some(text: &str, missing: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err(missing.to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn one_word(text: &str, missing: &str) -> Result<String, String> {
    let word = some(bare(text.trim()), missing)?;
    match word.contains(char::is_whitespace) {
        true => Err(format!("{missing}, and nothing more")),
        false => Ok(word),
    }
}

/// Without any marks and blanks at its end.
fn unmarked(text: &str) -> &str {
    text.trim_end_matches(|char: char| char.is_whitespace() || ".,;:!?".contains(char))
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

fn last_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let at = text.rfind(char::is_whitespace)?;
    let last = text[at..].trim_start();
    Some((text[..at].trim_end(), last))
}

/// What stands before, when the word is the last one.
fn strip_last_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let text = text.trim_end();
    let at = text.len().checked_sub(word.len()).filter(|at| text.is_char_boundary(*at))?;
    let (before, last) = text.split_at(at);
    let apart = before.is_empty() || before.ends_with(|char: char| char.is_whitespace() || char == ',');
    (apart && last.eq_ignore_ascii_case(word)).then_some(before)
}

/// A reason without its `because`; said twice it is no reason either, or it would be printed as another one.
fn after_because(text: &str) -> &str {
    match first_word(text) {
        (word, rest) if word.eq_ignore_ascii_case("because") => after_because(rest),
        _ => text,
    }
}

/// Before and behind the first occurrence of a word.
pub(super) fn at_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let mut from = 0;
    for part in text.split(char::is_whitespace) {
        if part.eq_ignore_ascii_case(word) {
            return Some((text[..from].trim(), text[from + part.len()..].trim()));
        }
        from += part.len();
        from += text[from..].chars().next().map_or(0, char::len_utf8);
    }
    None
}

fn around<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    at_word(text, word).filter(|(before, behind)| !before.is_empty() && !behind.is_empty())
}

fn without_prefix(text: &str) -> &str {
    let text = text.trim();
    match first_word(text) {
        ("/ops", rest) => rest,
        _ => text,
    }
}

/// Levenshtein distance; commands are short.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(32).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let substitute = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
