//! Why a row stands out, in words.

use std::fmt;

/// What a value was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// The same time of day over the last week, and of this weekday over the last month.
    Usual,
    /// The same five minutes of the last days.
    Minute,
    Yesterday,
    LastWeek,
    /// The last two hours: two dozen rows when they are five minutes apart, ten dozen when they follow faster.
    Recent,
}

/// The three kinds of Chandola, Banerjee, Kumar: "Anomaly Detection: A Survey", 2009.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Unlike its neighbours in time.
    Point,
    /// Like its neighbours, unlike this time on other days.
    Contextual,
    /// Not much by itself; together with the rows before it.
    Collective,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// Index of the value in its row.
    pub column: usize,
    pub value: f64,
    pub reference: Reference,
    /// Expected range: three spreads to either side.
    pub low: f64,
    pub high: f64,
    /// Distance from the middle of that range, positive above it; a drift's is its mean over hours.
    pub spreads: f64,
    pub shape: Shape,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usual => "its usual at this time",
            Self::Minute => "these minutes on other days",
            Self::Yesterday => "yesterday at this time",
            Self::LastWeek => "last week at this time",
            Self::Recent => "its recent level",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.spreads < 0.0 { "below" } else { "above" };
        let lasting = match self.shape {
            Shape::Point | Shape::Contextual => "",
            Shape::Collective => ", and it lasts",
        };
        write!(
            f,
            "value {} is {:.1} spreads {side} {} (expected {} to {}){lasting}",
            Short(self.value),
            self.spreads.abs(),
            self.reference,
            Short(self.low),
            Short(self.high),
        )
    }
}

/// Four digits are what a person reads.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if size != 0.0 && !(1e-3..1e6).contains(&size) {
            return write!(f, "{:.3e}", self.0);
        }
        let whole = size.max(1.0).log10().floor() as usize + 1;
        let text = format!("{:.*}", 4usize.saturating_sub(whole), self.0);
        f.write_str(if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_the_baseline_the_range_and_the_distance() {
        let reason = Reason {
            column: 0,
            value: 812.25,
            reference: Reference::Yesterday,
            low: 0.02,
            high: 2.5e7,
            spreads: -4.25,
            shape: Shape::Collective,
        };
        assert_eq!(
            reason.to_string(),
            "value 812.2 is 4.2 spreads below yesterday at this time (expected 0.02 to 2.500e7), and it lasts"
        );
    }
}
