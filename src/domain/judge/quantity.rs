//! Numbers and times of day in a text, with their units.
//!
//! Deliberately few units: those that the watch itself writes, and what people make of them.

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Quantity {
    /// `02:17`, compared as text.
    Clock(String),
    Number {
        value: f64,
        /// `None`: the text names none that is known.
        unit: Option<Unit>,
        decimals: i32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unit {
    pub kind: Kind,
    /// What one of it is in seconds, wholes, bytes or single ones.
    pub scale: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Time,
    Share,
    Bytes,
    /// `k` and the like, of whatever.
    Many,
}

impl Unit {
    const fn new(kind: Kind, scale: f64) -> Self {
        Self { kind, scale }
    }

    /// The one that numbers of this kind have when nothing is written behind them.
    pub(super) fn base(kind: Kind) -> Self {
        Self::new(kind, 1.0)
    }

    /// As the configuration names the unit of a signal.
    pub(super) fn of_signal(word: &str) -> Option<Self> {
        match word {
            "ratio" | "full" | "failing" | "not ready" => Some(Self::base(Kind::Share)),
            "%" => Some(Self::new(Kind::Share, 0.01)),
            "s" | "s behind" | "s left" => Some(Self::base(Kind::Time)),
            "ms" => Some(Self::new(Kind::Time, 1e-3)),
            "bytes" => Some(Self::base(Kind::Bytes)),
            _ => word.starts_with("of ").then_some(Self::base(Kind::Share)),
        }
    }

    /// `200M` of memory are bytes, too.
    fn measures_like(self, other: Self) -> bool {
        self.kind == other.kind
            || matches!((self.kind, other.kind), (Kind::Many, Kind::Bytes) | (Kind::Bytes, Kind::Many))
    }
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
    /// `37 %` agrees with 0.3712, `1.5 GiB` with 1610612736: people round and change units. Where both have a unit
    /// the bare digits say nothing: 8.773 ms are not 8.773 s.
    pub(super) fn agrees_with(&self, claimed: &Self) -> bool {
        let (Self::Number { value, unit, .. }, Self::Number { value: said, unit: said_unit, decimals }) =
            (self, claimed)
        else {
            return false;
        };
        let rounding = 0.5001 * 10_f64.powi(-decimals);
        let near = |one: f64, other: f64, slack: f64| {
            (one - other).abs() <= slack.max(1e-12) || (one - other).abs() <= 0.01 * other.abs()
        };
        let scale = |unit: &Option<Unit>| unit.map_or(1.0, |unit| unit.scale);
        let said_scale = scale(said_unit);
        let scaled = near(value * scale(unit), said * said_scale, rounding * said_scale);
        match (unit, said_unit) {
            (Some(one), Some(other)) => one.measures_like(*other) && scaled,
            (None, _) | (_, None) => scaled || near(*value, *said, rounding),
        }
    }

    pub(super) fn or_unit(self, named: Option<Unit>) -> Self {
        match self {
            Self::Number { value, unit, decimals } => Self::Number { value, unit: unit.or(named), decimals },
            Self::Clock(_) => self,
        }
    }
}

/// All numbers that stand for themselves: not those inside words (`p99`, `E3`, `cart-7f9c`).
pub(super) fn quantities(text: &str) -> Vec<Quantity> {
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
        let behind = Behind::of(&characters[at..]);
        if let (Ok(value), false) = (plain.parse(), behind.begins_a_word) {
            found.push(Quantity::Number { value, unit: behind.unit, decimals });
        }
    }
    found
}

/// A point, comma or colon between digits.
fn is_inner(characters: &[char], at: usize) -> bool {
    matches!(characters[at], '.' | ',' | ':') && characters.get(at + 1).is_some_and(char::is_ascii_digit)
}

/// What stands behind a number.
struct Behind {
    unit: Option<Unit>,
    /// The digits are the beginning of a name (`7f9c`).
    begins_a_word: bool,
}

impl Behind {
    fn of(rest: &[char]) -> Self {
        let spaced = rest.first() == Some(&' ');
        let from = usize::from(spaced);
        let word: String = rest.iter().skip(from).take_while(|c| c.is_alphabetic() || **c == '%').collect();
        let length = word.chars().count();
        let next = rest.get(from + length);
        let unit = match word.as_str() {
            // The name of the next value: `first=0.01 min=0.01`.
            _ if next == Some(&'=') => None,
            "%" | "percent" => Some(Unit::new(Kind::Share, 0.01)),
            "ms" | "milliseconds" => Some(Unit::new(Kind::Time, 1e-3)),
            "s" | "sec" | "second" | "seconds" => Some(Unit::base(Kind::Time)),
            "min" | "minute" | "minutes" => Some(Unit::new(Kind::Time, 60.0)),
            "h" | "hour" | "hours" => Some(Unit::new(Kind::Time, 3_600.0)),
            "d" | "day" | "days" => Some(Unit::new(Kind::Time, 86_400.0)),
            "k" | "K" => Some(Unit::new(Kind::Many, 1e3)),
            "M" => Some(Unit::new(Kind::Many, 1e6)),
            "G" => Some(Unit::new(Kind::Many, 1e9)),
            "B" | "byte" | "bytes" => Some(Unit::base(Kind::Bytes)),
            "kB" | "KB" => Some(Unit::new(Kind::Bytes, 1e3)),
            "MB" => Some(Unit::new(Kind::Bytes, 1e6)),
            "GB" => Some(Unit::new(Kind::Bytes, 1e9)),
            "Ki" | "KiB" => Some(Unit::new(Kind::Bytes, 1_024.0)),
            "Mi" | "MiB" => Some(Unit::new(Kind::Bytes, 1_048_576.0)),
            "Gi" | "GiB" => Some(Unit::new(Kind::Bytes, 1_073_741_824.0)),
            _ => None,
        };
        let glued_word = !spaced && length > 3;
        let hash = !spaced && length > 0 && next.is_some_and(char::is_ascii_digit);
        Self { unit, begins_a_word: glued_word || hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_inside_names_are_no_quantities() {
        assert!(quantities("p99 of cart-7f9c55-x2x in E3 v2").is_empty());
    }

    #[test]
    fn the_name_of_the_next_value_is_no_unit() {
        let shown = quantities("first=0.01 min=0.02 s");
        let units: Vec<bool> = shown.iter().map(|one| matches!(one, Quantity::Number { unit: Some(_), .. })).collect();
        assert_eq!(units, [false, true], "{shown:?}");
    }
}
