//! Whether a sentence says what its evidence says: its numbers and names must occur there.
//!
//! Deliberately coarse. It catches the invented value and the invented component, which are what a
//! person would act on; it does not judge the logic of a sentence.

use std::collections::BTreeSet;

use crate::domain::evidence::Evidence;

/// Why the claim does not hold, as one sentence; `None`: it does.
pub(super) fn objection(claim: &str, cited: &[&Evidence], known: &BTreeSet<String>) -> Option<String> {
    let body: String = cited.iter().flat_map(|item| [item.summary.as_str(), "\n", item.body.as_str(), "\n"]).collect();
    let values: Vec<Quantity> = quantities(&body).into_iter().chain(of_series(cited)).collect();
    for quantity in quantities(claim) {
        let found = match &quantity {
            Quantity::Clock(time) => body.contains(time.as_str()),
            Quantity::Number { .. } => values.iter().any(|value| value.agrees_with(&quantity)),
        };
        if !found {
            return Some(format!("{quantity} does not occur in the evidence that is cited"));
        }
    }
    let named = known.iter().filter(|name| mentions(claim, name)).cloned().chain(identifiers(claim));
    for name in named {
        if !names_in_evidence(cited, &name) {
            return Some(format!("{name:?} does not occur in the evidence that is cited"));
        }
    }
    None
}

/// Whether the words stand in one of them, whatever the spaces and the case.
pub(super) fn is_quoted(quote: &str, cited: &[&Evidence]) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let quote = plain(quote);
    cited.iter().any(|item| plain(&item.body).contains(&quote) || plain(&item.summary).contains(&quote))
}

/// Longest stretch of lines that is named as the place of a claim.
const STRETCH: usize = 5;
const MAX_LINES: usize = 5_000;

/// The lines of the evidence, counted from 1, that carry most of what the claim says: its numbers,
/// its times and its words. `None`: nothing of it stands in one place.
pub(super) fn lines(claim: &str, item: &Evidence) -> Option<(usize, usize)> {
    let numbers = quantities(claim);
    let words: BTreeSet<String> = claim
        .split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_' || c == '.'))
        .filter(|word| word.chars().count() >= 4)
        .map(str::to_lowercase)
        .collect();
    let weights: Vec<f64> = item
        .body
        .lines()
        .take(MAX_LINES)
        .map(|line| {
            let values = quantities(line);
            let shown = numbers.iter().filter(|number| match number {
                Quantity::Clock(time) => line.contains(time.as_str()),
                Quantity::Number { .. } => values.iter().any(|value| value.agrees_with(number)),
            });
            let lower = line.to_lowercase();
            // A number says more than a word, which may stand anywhere.
            2.0 * shown.count() as f64 + words.iter().filter(|word| lower.contains(word.as_str())).count() as f64
        })
        .collect();
    let best = weights.iter().copied().fold(0.0, f64::max);
    if best < 2.0 {
        return None;
    }
    let first = weights.iter().position(|weight| *weight >= best)?;
    // Neighbours that say nearly as much belong to it.
    let belongs = |at: usize| weights.get(at).is_some_and(|weight| *weight >= best * 0.75);
    let last = (first..first + STRETCH).take_while(|at| belongs(*at)).last().unwrap_or(first);
    Some((first + 1, last + 1))
}

/// The query counts for names (it is the scope of the answer), never for numbers.
pub(super) fn names_in_evidence(cited: &[&Evidence], name: &str) -> bool {
    cited.iter().any(|item| {
        mentions(&item.summary, name)
            || mentions(&item.body, name)
            || mentions(&item.query, name)
            || item.series.iter().any(|series| series.labels.values().any(|value| mentions(value, name)))
    })
}

/// As a whole word: `cart` is not in `cartoon`, but it is in `cart-7f9c`.
pub fn mentions(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    if name.is_empty() {
        return false;
    }
    let outside = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    text.match_indices(&name)
        .any(|(at, found)| outside(text[..at].chars().next_back()) && outside(text[at + found.len()..].chars().next()))
}

/// Words that can only be names of things: in backticks, with an underscore, or hyphenated with a
/// digit (`cart-7f9c`). Plain English with hyphens is not one of them.
fn identifiers(claim: &str) -> Vec<String> {
    let quoted = claim.split('`').skip(1).step_by(2).map(str::trim);
    let words = claim
        .split(|c: char| c.is_whitespace() || "`,;()[]\"'".contains(c))
        .map(|word| word.trim_matches(|c: char| ".:!?".contains(c)));
    let is_name = |word: &&str| {
        let starts_as_name = word.starts_with(|c: char| c.is_ascii_alphabetic());
        let hyphenated = word.contains('-') && word.contains(|c: char| c.is_ascii_digit());
        starts_as_name && (word.contains('_') || hyphenated)
    };
    let quoted = quoted.filter(|word| !word.is_empty() && quantities(word).is_empty());
    quoted.chain(words.filter(is_name)).map(str::to_owned).collect()
}

#[derive(Debug, Clone, PartialEq)]
enum Quantity {
    /// `02:17`, compared as text.
    Clock(String),
    Number {
        value: f64,
        scale: f64,
        decimals: i32,
    },
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Clock(time) => f.write_str(time),
            Self::Number { value, .. } => write!(f, "{value}"),
        }
    }
}

impl Quantity {
    /// `37 %` agrees with 0.3712, `1.5 GiB` with 1610612736: people round and change units.
    fn agrees_with(&self, claimed: &Self) -> bool {
        let (Self::Number { value, scale, .. }, Self::Number { value: said, scale: said_scale, decimals }) =
            (self, claimed)
        else {
            return false;
        };
        let rounding = 0.5001 * 10_f64.powi(-decimals);
        let near = |one: f64, other: f64, slack: f64| {
            (one - other).abs() <= slack.max(1e-12) || (one - other).abs() <= 0.01 * other.abs()
        };
        near(*value, *said, rounding)
            || near(value * scale, said * said_scale, rounding * said_scale)
            || near(*value, said * said_scale, rounding * said_scale)
            || near(value * scale, *said, rounding)
    }
}

fn of_series(cited: &[&Evidence]) -> Vec<Quantity> {
    let number = |value: f64| Quantity::Number { value, scale: 1.0, decimals: 6 };
    let mut values = vec![];
    for series in cited.iter().flat_map(|item| &item.series) {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in series.values() {
            (low, high) = (low.min(value), high.max(value));
        }
        values.extend([low, high].into_iter().chain(series.last()).filter(|value| value.is_finite()).map(number));
    }
    values
}

/// All numbers that stand for themselves: not those inside words (`p99`, `E3`, `cart-7f9c`).
fn quantities(text: &str) -> Vec<Quantity> {
    let mut found = vec![];
    let characters: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < characters.len() {
        if !characters[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let before = at.checked_sub(1).and_then(|before| characters.get(before));
        let start = at;
        while at < characters.len() && (characters[at].is_ascii_digit() || is_inner(&characters, at)) {
            at += 1;
        }
        let inside_word = before.is_some_and(|c| c.is_alphanumeric() || *c == '_')
            || (before == Some(&'-') && start >= 2 && characters[start - 2].is_alphanumeric());
        if inside_word {
            continue;
        }
        let token: String = characters[start..at].iter().collect();
        if token.contains(':') {
            found.push(Quantity::Clock(token));
            continue;
        }
        let plain = token.replace(',', "");
        let decimals = plain.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i32);
        let scale = unit(&characters[at..]);
        if let (Ok(value), Some(scale)) = (plain.parse(), scale) {
            found.push(Quantity::Number { value, scale, decimals });
        }
    }
    found
}

/// A point, comma or colon between digits.
fn is_inner(characters: &[char], at: usize) -> bool {
    matches!(characters[at], '.' | ',' | ':') && characters.get(at + 1).is_some_and(char::is_ascii_digit)
}

/// What the unit after a number multiplies it by; `None`: the digits begin a word (`7f9c`).
fn unit(rest: &[char]) -> Option<f64> {
    let spaced = rest.first() == Some(&' ');
    let word: String = rest.iter().skip(usize::from(spaced)).take_while(|c| c.is_alphabetic() || **c == '%').collect();
    let scale = match word.as_str() {
        "%" => 0.01,
        "ms" => 1e-3,
        "min" => 60.0,
        "h" => 3_600.0,
        "k" | "K" | "kB" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "Ki" | "KiB" => 1_024.0,
        "Mi" | "MiB" => 1_048_576.0,
        "Gi" | "GiB" => 1_073_741_824.0,
        _ => 1.0,
    };
    let glued_word = !spaced && word.chars().count() > 3;
    let hash = !spaced && rest.get(word.chars().count()).is_some_and(char::is_ascii_digit) && !word.is_empty();
    (!glued_word && !hash).then_some(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(claim: &str, evidence: &str, expected: expect_test::Expect) {
        let values = quantities(evidence);
        let lost = quantities(claim).into_iter().find(|quantity| match quantity {
            Quantity::Clock(time) => !evidence.contains(time.as_str()),
            Quantity::Number { .. } => !values.iter().any(|value| value.agrees_with(quantity)),
        });
        expected.assert_eq(&lost.map_or("holds".to_owned(), |quantity| quantity.to_string()));
    }

    #[test]
    fn people_round_and_change_units() {
        check("errors rose to 37 % at 02:17", "ratio max=0.3712 onset 02:17:30", expect_test::expect!["holds"]);
        check("p99 is 2.1 s", "p99 last=2.1349", expect_test::expect!["holds"]);
        check("p99 is 350 ms", "last=0.3502 s", expect_test::expect!["holds"]);
        check("1.5 GiB of heap", "last=1610612736", expect_test::expect!["holds"]);
        check("pool grew from 20 to 200", "DB_POOL_MAX: 20 -> 200", expect_test::expect!["holds"]);
        check("about 1,200 requests", "last=1203", expect_test::expect!["holds"]);
    }

    #[test]
    fn an_invented_number_is_found() {
        check("errors rose to 47 %", "ratio max=0.3712", expect_test::expect!["47"]);
        check("since 02:18", "onset 02:17:30", expect_test::expect!["02:18"]);
        check("revision 8", "session revision 7", expect_test::expect!["8"]);
    }

    #[test]
    fn numbers_inside_names_are_no_quantities() {
        assert!(quantities("p99 of cart-7f9c55-x2x in E3 v2").is_empty());
        assert_eq!(
            identifiers("`cart` on cart-7f9c lost http_requests, long-running"),
            ["cart", "cart-7f9c", "http_requests"]
        );
    }
}
