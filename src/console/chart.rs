//! Metric graphs and the alert funnel as SVG, sized so that a phone shows them about one to one.
//!
//! Pure: the same numbers give the same picture. Every text goes through [`escape`]; colours follow
//! the reader's light or dark preference.

use std::fmt::Write as _;

use super::view::{Band, ChangeMark, Funnel, Series};
use crate::domain::time::Timestamp;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 46.0;
const FOOT: f64 = 30.0;
const LEGEND_ROW: f64 = 18.0;
/// More lines than this cannot be told apart by colour.
const MOST_SERIES: usize = 6;

/// One graph.
#[derive(Debug, Clone, Copy, Default)]
pub struct Metric<'a> {
    pub title: &'a str,
    /// Put behind the numbers: `%`, `ms`, `req/s`; `bytes` counts in 1024s.
    pub unit: &'a str,
    pub series: &'a [Series],
    /// When the trouble began.
    pub onset: Option<Timestamp>,
    pub change: Option<&'a ChangeMark>,
    /// What is normal.
    pub band: Option<Band>,
}

pub fn metric_svg(metric: &Metric<'_>) -> String {
    let shown = metric.series.get(..MOST_SERIES.min(metric.series.len())).unwrap_or_default();
    let legend_rows = shown.len().div_ceil(2) as f64;
    let height = HEIGHT + legend_rows * LEGEND_ROW;
    // Without a title its line is cut off: the text beside the picture says it already.
    let top = if metric.title.is_empty() { 18.0 } else { 0.0 };
    let mut svg = open_below(top, height, metric.title);
    let _ = write!(svg, r#"<text class="title" x="14" y="24">{}</text>"#, escape(&clip(metric.title, 48)));
    match Frame::around(metric, shown) {
        None => {
            let y = HEIGHT / 2.0;
            let _ = write!(
                svg,
                r#"<text class="faint" x="{}" y="{y}" text-anchor="middle">no samples</text>"#,
                WIDTH / 2.0
            );
        }
        Some(frame) => frame.draw(&mut svg, metric, shown),
    }
    svg.push_str("</svg>");
    svg
}

pub fn funnel_svg(funnel: &Funnel) -> String {
    const ROW: f64 = 52.0;
    let height = 30.0 + funnel.stages.len().max(1) as f64 * ROW;
    let mut svg = open(height, "Alert funnel");
    let most = funnel.stages.iter().map(|stage| stage.count).max().unwrap_or(0);
    if funnel.stages.is_empty() {
        svg.push_str(r#"<text class="faint" x="14" y="46">no alerts yet</text>"#);
    }
    for (row, stage) in funnel.stages.iter().enumerate() {
        let y = 16.0 + row as f64 * ROW;
        // Logarithmic, since a thousand raw alerts become one incident and both must be seen.
        let share = if most == 0 { 0.0 } else { (1.0 + stage.count as f64).ln() / (1.0 + most as f64).ln() };
        let width = (share * 268.0).max(3.0);
        let class = if row + 1 == funnel.stages.len() { "bar last" } else { "bar" };
        let _ = write!(
            svg,
            r#"<text class="label" x="88" y="{text_y}" text-anchor="end">{name}</text><rect class="{class}" x="98" y="{y}" width="{width:.1}" height="22" rx="3"/><text class="count" x="{count_x:.1}" y="{text_y}">{count}</text>"#,
            text_y = y + 16.0,
            name = escape(&clip(&stage.name, 12)),
            count_x = 98.0 + width + 7.0,
            count = stage.count,
        );
        let reasons: Vec<_> = stage.left_out.iter().map(|out| format!("−{} {}", out.count, out.reason)).collect();
        if !reasons.is_empty() {
            let line = escape(&clip(&reasons.join(", "), 58));
            let _ = write!(svg, r#"<text class="small" x="98" y="{}">{line}</text>"#, y + 37.0);
        }
    }
    svg.push_str("</svg>");
    svg
}

/// Where instants and values are on the paper.
struct Frame {
    from: i64,
    until: i64,
    low: f64,
    high: f64,
    step: f64,
}

impl Frame {
    fn around(metric: &Metric<'_>, shown: &[Series]) -> Option<Self> {
        let points = || shown.iter().flat_map(|series| &series.points).filter(|(_, value)| is_drawable(*value));
        let from = points().map(|(at, _)| at.millis()).min()?;
        let until = points().map(|(at, _)| at.millis()).max()?.max(from.saturating_add(60_000));
        let band = metric.band.filter(|band| band.low.is_finite() && band.high.is_finite());
        let values =
            || points().map(|(_, value)| *value).chain(band.into_iter().flat_map(|band| [band.low, band.high]));
        let low = values().fold(f64::INFINITY, f64::min);
        let high = values().fold(f64::NEG_INFINITY, f64::max);
        // Start at zero unless the movement would be lost in it.
        let low = if low >= 0.0 && low < high * 0.7 { 0.0 } else { low };
        let high = if high - low > f64::EPSILON * high.abs().max(1.0) { high } else { low + low.abs().max(1.0) };
        let step = nice_step((high - low) / 4.0);
        Some(Self { from, until, low: (low / step).floor() * step, high: (high / step).ceil() * step, step })
    }

    fn x(&self, at: Timestamp) -> f64 {
        let span = (self.until as f64 - self.from as f64).max(1.0);
        LEFT + (at.millis() as f64 - self.from as f64) / span * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - FOOT - (value - self.low) / (self.high - self.low) * (HEIGHT - FOOT - TOP)
    }

    fn holds(&self, at: Timestamp) -> bool {
        (self.from..=self.until).contains(&at.millis())
    }

    fn draw(&self, svg: &mut String, metric: &Metric<'_>, shown: &[Series]) {
        if let Some(band) = metric.band.filter(|band| band.low.is_finite() && band.high.is_finite()) {
            let (top, bottom) = (self.y(band.high), self.y(band.low));
            let width = WIDTH - LEFT - RIGHT;
            let height = (bottom - top).max(1.0);
            let _ = write!(
                svg,
                r#"<rect class="band" x="{LEFT}" y="{top:.1}" width="{width}" height="{height:.1}"><title>normal</title></rect>"#
            );
        }
        self.draw_axes(svg, metric.unit);
        for (index, series) in shown.iter().enumerate() {
            self.draw_line(svg, index, series);
        }
        self.draw_marks(svg, metric);
        draw_legend(svg, metric, shown);
    }

    fn draw_axes(&self, svg: &mut String, unit: &str) {
        let lines = ((self.high - self.low) / self.step).round().clamp(1.0, 12.0) as usize;
        for line in 0..=lines {
            let value = self.low + line as f64 * self.step;
            let y = self.y(value);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                escape(&with_unit(value, self.step, unit)),
            );
        }
        let step = time_step(self.until - self.from);
        let mut at = self.from.div_euclid(step) * step + step;
        while at <= self.until {
            let x = self.x(Timestamp::from_millis(at));
            if (LEFT + 16.0..WIDTH - 30.0).contains(&x) {
                let _ = write!(
                    svg,
                    r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{}" y2="{}"/><text class="tick" x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#,
                    HEIGHT - FOOT,
                    HEIGHT - FOOT + 4.0,
                    HEIGHT - FOOT + 18.0,
                    Timestamp::from_millis(at).hour_minute(),
                );
            }
            at += step;
        }
        let _ = write!(svg, r#"<text class="tick" x="14" y="{}">UTC</text>"#, HEIGHT - FOOT + 18.0);
    }

    /// A gap in the numbers is a gap in the line; a lone sample is a dot.
    fn draw_line(&self, svg: &mut String, index: usize, series: &Series) {
        let mut path = String::new();
        for run in series.points.split(|(_, value)| !is_drawable(*value)).filter(|run| !run.is_empty()) {
            for (place, (at, value)) in run.iter().enumerate() {
                let _ = write!(path, "{}{:.1} {:.1}", if place == 0 { 'M' } else { 'L' }, self.x(*at), self.y(*value));
            }
            if let [(at, value)] = run {
                let (x, y) = (self.x(*at), self.y(*value));
                let _ = write!(svg, r#"<circle class="dot{index}" cx="{x:.1}" cy="{y:.1}" r="2.5"/>"#);
            }
        }
        let _ = write!(svg, r#"<path class="line{index}" d="{path}"/>"#);
    }

    /// The earlier mark is labelled to its left and the later one to its right, where there is room.
    fn draw_marks(&self, svg: &mut String, metric: &Metric<'_>) {
        let onset = metric.onset.map(|at| (at, "onset", format!("onset {}", at.hour_minute())));
        let change = metric.change.map(|change| (change.at, "change", clip(&change.label, 26)));
        let mut marks: Vec<_> = change.into_iter().chain(onset).filter(|(at, ..)| self.holds(*at)).collect();
        marks.sort_by_key(|(at, ..)| *at);
        for (index, (at, class, label)) in marks.iter().enumerate() {
            let x = self.x(*at);
            let wide = label.chars().count() as f64 * 6.6;
            let leftward = if index + 1 < marks.len() { x - wide > LEFT } else { x + wide > WIDTH - RIGHT };
            let (label_x, anchor) = if leftward { (x - 5.0, "end") } else { (x + 5.0, "start") };
            let label_y = if index == 0 { TOP - 4.0 } else { TOP + 9.0 };
            let _ = write!(
                svg,
                r#"<line class="{class}" x1="{x:.1}" x2="{x:.1}" y1="{:.1}" y2="{:.1}"/><text class="{class}-label" x="{label_x:.1}" y="{label_y:.1}" text-anchor="{anchor}">{}</text>"#,
                TOP - 12.0,
                HEIGHT - FOOT,
                escape(label),
            );
        }
    }
}

fn draw_legend(svg: &mut String, metric: &Metric<'_>, shown: &[Series]) {
    for (index, series) in shown.iter().enumerate() {
        let x = if index % 2 == 0 { LEFT } else { LEFT + (WIDTH - LEFT - RIGHT) / 2.0 };
        let y = HEIGHT + 6.0 + (index / 2) as f64 * LEGEND_ROW;
        let more = metric.series.len() - shown.len();
        let name = match (index + 1 == shown.len(), more) {
            (true, 1..) => format!("{} (+{more} more)", clip(&series.name, 14)),
            (_, _) => clip(&series.name, 25),
        };
        let _ = write!(
            svg,
            r#"<path class="line{index}" d="M{x} {line_y}h14"/><text class="tick" x="{text_x}" y="{y}">{}</text>"#,
            escape(&name),
            line_y = y - 4.0,
            text_x = x + 20.0,
        );
    }
}

pub(super) fn open(height: f64, label: &str) -> String {
    open_below(0.0, height, label)
}

fn open_below(top: f64, height: f64, label: &str) -> String {
    let label = escape(label);
    let height = height - top;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {top} {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{label}"><style>{STYLE}</style><rect class="paper" y="{top}" width="{WIDTH}" height="{height}" rx="6"/>"#
    )
}

/// Tones of the page's own palette: see `style.css`.
const STYLE: &str = include_str!("picture.css");

/// For text nodes and attributes; what XML cannot carry is left out.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(' '),
            c if c.is_control()
                || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {}
            c => safe.push(c),
        }
    }
    safe
}

pub(super) fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Differences of two such values stay finite.
fn is_drawable(value: f64) -> bool {
    value.abs() < 1e300
}

/// The next of 1, 2, 5 times a power of ten.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.abs().max(1e-12).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

/// At most six labels, on round minutes.
fn time_step(span: i64) -> i64 {
    const MINUTES: [i64; 13] = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 10080];
    let step = MINUTES.into_iter().map(|minutes| minutes * 60_000).find(|step| span / step <= 6);
    step.unwrap_or_else(|| (span / 6).max(60_000))
}

fn with_unit(value: f64, step: f64, unit: &str) -> String {
    if unit == "ms" && value.abs() >= 1000.0 {
        return with_unit(value / 1000.0, step / 1000.0, "s");
    }
    let (base, prefixes) =
        if unit == "bytes" { (1024.0, ["", "Ki", "Mi", "Gi", "Ti"]) } else { (1000.0, ["", "k", "M", "G", "T"]) };
    let mut scale = 1.0;
    let mut prefix = "";
    for next in prefixes {
        prefix = next;
        if value.abs() < scale * base {
            break;
        }
        if next != "Ti" && next != "T" {
            scale *= base;
        }
    }
    let decimals = (-(step / scale).log10().floor()).clamp(0.0, 4.0) as usize;
    let unit = match unit {
        "bytes" => "",
        unit if unit.chars().count() <= 2 => unit,
        _ => "",
    };
    format!("{:.decimals$}{prefix}{unit}", value / scale + 0.0)
}

#[cfg(test)]
mod tests {
    use super::super::view::{FunnelStage, LeftOut};
    use super::*;

    fn series(name: &str, values: &[f64]) -> Series {
        let at = |minute: usize| Timestamp::from_secs(1_795_230_000 + 60 * minute as i64);
        Series { name: name.into(), points: values.iter().enumerate().map(|(m, v)| (at(m), *v)).collect() }
    }

    fn draw(title: &str, unit: &str, values: &[f64]) -> String {
        metric_svg(&Metric { title, unit, series: &[series("a", values)], ..Metric::default() })
    }

    #[test]
    fn hostile_text_stays_text() {
        let svg = metric_svg(&Metric {
            title: "</text><script>alert(1)</script>\u{0}\u{202e}",
            series: &[series("\"><img onerror=x>", &[1.0, 2.0])],
            change: Some(&ChangeMark { at: Timestamp::from_secs(1_795_230_030), label: "<b>&".into() }),
            ..Metric::default()
        });
        assert!(!svg.contains("<script") && !svg.contains("<img") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("&lt;script&gt;") && svg.contains("&lt;b&gt;&amp;"));
        assert!(!svg.contains('\u{0}') && !svg.contains('\u{202e}'));
    }

    #[test]
    fn a_gap_breaks_the_line_and_never_becomes_a_number() {
        let svg = draw("t", "", &[1.0, 2.0, f64::NAN, 3.0, f64::INFINITY, 4.0, 5.0]);
        let path = svg.split(r#"class="line0" d=""#).nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(path.matches('M').count(), 3);
        assert!(svg.contains(r#"<circle class="dot0""#), "a lone sample is a dot");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn nothing_to_draw_says_so() {
        assert!(metric_svg(&Metric { title: "empty", ..Metric::default() }).contains("no samples"));
        assert!(draw("t", "", &[f64::NAN]).contains("no samples"));
        assert!(funnel_svg(&Funnel::default()).contains("no alerts yet"));
    }

    #[test]
    fn flat_tiny_huge_and_negative_lines_have_a_scale() {
        for values in [&[0.0, 0.0][..], &[5.0], &[1e-9, 2e-9], &[1e18, 2e18], &[-3.0, -1.0], &[f64::MAX, f64::MIN]] {
            let svg = draw("t", "", values);
            assert!(!svg.contains("NaN") && svg.len() < 20_000, "{values:?}");
        }
    }

    #[test]
    fn ticks_are_round_and_carry_units() {
        assert_eq!(nice_step(0.23), 0.5);
        assert_eq!(nice_step(18.0), 20.0);
        assert_eq!(with_unit(1500.0, 500.0, "ms"), "1.5s");
        assert_eq!(with_unit(40.0, 20.0, "%"), "40%");
        assert_eq!(with_unit(2_147_483_648.0, 1e9, "bytes"), "2.0Gi");
        assert!(draw("t", "%", &[0.0, 97.0]).contains(">100%<"));
    }

    #[test]
    fn onset_outside_the_window_is_not_drawn() {
        let far = Timestamp::from_secs(1);
        let metric = Metric { title: "t", onset: Some(far), ..Metric::default() };
        assert!(!metric_svg(&Metric { series: &[series("a", &[1.0, 2.0])], ..metric }).contains("onset "));
    }

    #[test]
    fn the_funnel_shows_counts_and_reasons() {
        let stage = |name: &str, count, left_out| FunnelStage { name: name.into(), count, left_out };
        let muted = vec![LeftOut { reason: "silenced".into(), count: 12 }];
        let svg = funnel_svg(&Funnel { stages: vec![stage("raw", 4812, vec![]), stage("unique", 310, muted)] });
        assert!(svg.contains(">4812<") && svg.contains("−12 silenced"), "{svg}");
    }
}
