//! What a button asks before its click counts: one form, shown as Slack's dialog and as the
//! console's.
//!
//! Invariant: the answers become one line of words, the same that a command would take, so that
//! no surface can say more than another.

use serde::Serialize;

use super::ButtonAction;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Form {
    /// At most 24 characters, which is what Slack shows.
    pub title: &'static str,
    /// On the button that sends it.
    pub send: &'static str,
    pub inputs: &'static [Input],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Input {
    pub id: &'static str,
    pub label: &'static str,
    pub kind: InputKind,
    /// May be left empty.
    pub optional: bool,
    /// Shown below the field.
    pub hint: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InputKind {
    /// Several lines.
    Words,
    Line,
    /// Value and label of each; the first is chosen until the person chooses another.
    Choice {
        options: &'static [(&'static str, &'static str)],
    },
}

/// The field that every form has: why.
pub const REASON: &str = "reason";

const fn why(label: &'static str, hint: &'static str) -> Input {
    Input { id: REASON, label, kind: InputKind::Words, optional: false, hint }
}

const REJECT: Form = Form {
    title: "Reject the plan",
    send: "Reject",
    inputs: &[why("Why not?", "The next investigation of this incident reads it.")],
};

const ASK_MORE: Form = Form {
    title: "Ask more",
    send: "Ask",
    inputs: &[why("What do you want to know?", "The next look at this incident reads it; this card is void then.")],
};

const THUMBS_DOWN: Form = Form {
    title: "Improve the diagnosis",
    send: "Send",
    inputs: &[
        Input {
            id: "part",
            label: "What was wrong?",
            kind: InputKind::Choice {
                options: &[
                    ("the cause", "The cause"),
                    ("the evidence", "The evidence"),
                    ("the remedy", "The remedy"),
                    ("too little", "It says too little"),
                ],
            },
            optional: false,
            hint: "",
        },
        why("In a few words", "Kept with your vote; you can change the vote."),
    ],
};

const SILENCE: Form = Form {
    title: "Silence alerts",
    send: "Silence",
    inputs: &[
        Input {
            id: "matchers",
            label: "Which alerts?",
            kind: InputKind::Line,
            optional: true,
            hint: "Such as service=\"checkout\", alertname=\"HighLatency\". Empty: everything of this incident.",
        },
        Input {
            id: "span",
            label: "For how long?",
            kind: InputKind::Choice {
                options: &[
                    ("30m", "30 minutes"),
                    ("1h", "1 hour"),
                    ("2h", "2 hours"),
                    ("4h", "4 hours"),
                    ("12h", "12 hours"),
                    ("24h", "24 hours"),
                ],
            },
            optional: false,
            hint: "",
        },
        why("Why?", "For those who look later."),
    ],
};

const MERGE: Form = Form {
    title: "Merge the incident",
    send: "Merge",
    inputs: &[why("Into which incident, and why?", "For example: INC-1 because one database")],
};

const SPLIT: Form = Form {
    title: "Split the incident",
    send: "Split",
    inputs: &[why("Which services or hosts leave, and why?", "For example: checkout because its own bug")],
};

const NOT_AN_INCIDENT: Form =
    Form { title: "Not an incident", send: "Send", inputs: &[why("Why is it noise?", "The watch learns from it.")] };

impl ButtonAction {
    /// `None`: the click counts at once.
    pub fn form(self) -> Option<&'static Form> {
        match self {
            Self::Reject => Some(&REJECT),
            Self::AskMore => Some(&ASK_MORE),
            Self::ThumbsDown => Some(&THUMBS_DOWN),
            Self::Silence => Some(&SILENCE),
            Self::Merge => Some(&MERGE),
            Self::Split => Some(&SPLIT),
            Self::NotAnIncident => Some(&NOT_AN_INCIDENT),
            Self::Approve | Self::Acknowledge | Self::Runbook | Self::Dashboard => None,
            Self::ThumbsUp | Self::RightlyMuted | Self::ShouldHaveWoken => None,
        }
    }
}

impl Form {
    /// The answers as one line; `None` while a field that must be filled is empty.
    pub fn words(&self, answer: impl Fn(&str) -> Option<String>) -> Option<String> {
        let given = |input: &Input| {
            let words = answer(input.id).map(|words| words.trim().to_owned()).filter(|words| !words.is_empty());
            match (&input.kind, words) {
                (_, Some(words)) => Some(words),
                (InputKind::Choice { options }, None) => options.first().map(|(value, _)| (*value).to_owned()),
                (InputKind::Words | InputKind::Line, None) if input.optional => Some(String::new()),
                (InputKind::Words | InputKind::Line, None) => None,
            }
        };
        let mut line = String::new();
        for input in self.inputs {
            let words = given(input)?;
            let piece = match input.id {
                "span" => format!("for {words}"),
                "part" => format!("{words}:"),
                REASON if self.inputs.iter().any(|other| other.id == "span") => format!("because {words}"),
                _ => words,
            };
            if !line.is_empty() && !piece.is_empty() {
                line.push(' ');
            }
            line.push_str(&piece);
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(action: ButtonAction, answers: &[(&str, &str)], expected: Option<&str>) {
        let answer = |id: &str| answers.iter().find(|(name, _)| *name == id).map(|(_, words)| (*words).to_owned());
        assert_eq!(action.form().unwrap().words(answer).as_deref(), expected, "{action:?} {answers:?}");
    }

    #[test]
    fn answers_become_the_words_of_a_command() {
        let all = [("matchers", "service=pay"), ("span", "2h"), ("reason", " load test ")];
        check(ButtonAction::Silence, &all, Some("service=pay for 2h because load test"));
        check(ButtonAction::Silence, &[("reason", "x")], Some("for 30m because x"));
        check(ButtonAction::Silence, &[("matchers", "a=b")], None);
        check(ButtonAction::ThumbsDown, &[("part", "the remedy"), ("reason", "x")], Some("the remedy: x"));
        check(ButtonAction::Reject, &[("reason", "freeze")], Some("freeze"));
        check(ButtonAction::Reject, &[("reason", "  ")], None);
    }

    #[test]
    fn slack_shows_every_form_whole() {
        for form in ButtonAction::ALL.into_iter().filter_map(ButtonAction::form) {
            assert!(form.title.chars().count() <= 24 && form.send.chars().count() <= 24, "{form:?}");
            assert!(form.inputs.iter().any(|input| input.id == REASON && !input.optional), "{form:?}");
        }
    }
}
