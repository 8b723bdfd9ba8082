//! Looks into evidence that was too long to be shown. What is found is part of what is kept: claims
//! cite the evidence itself.

use async_trait::async_trait;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::{Value, json};

use super::digest::{MAX_LINE, clip};
use super::{Draft, Keep, MAX_TEXT, TellModel, Terms, Tool, ToolContext, arguments, schema};
use crate::domain::evidence::Evidence;
use crate::ports::ToolSchema;

const MAX_PATTERN: usize = 300;
const MAX_MATCHES: usize = 40;
const MAX_CONTEXT: usize = 10;
const MAX_LINES: usize = 200;
/// Room that the line numbers and the closing note need.
const ROOM: usize = MAX_TEXT - 200;

pub struct Grep;
pub struct Page;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrepArguments {
    evidence: String,
    pattern: String,
    context: Option<usize>,
}

#[async_trait]
impl Tool for Grep {
    fn schema(&self) -> ToolSchema {
        schema(
            "evidence_grep",
            "Lines of a kept answer that match, with their numbers. For answers that were too long to be shown. Cite \
             the evidence itself.",
            json!({
                "evidence": {"type": "string", "description": "its mark, e.g. E6"},
                "pattern": {"type": "string", "description": "regular expression; upper and lower case are the same"},
                "context": {"type": "integer", "minimum": 0, "maximum": MAX_CONTEXT, "description": "lines around"},
            }),
            &["evidence", "pattern"],
        )
    }

    fn terms(&self) -> Terms {
        Terms { keep: Keep::NotAgain, ..Terms::default() }
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let GrepArguments { evidence, pattern, context: around } = arguments(value)?;
        if pattern.is_empty() || pattern.len() > MAX_PATTERN {
            return Err(TellModel(format!("`pattern` must be 1 to {MAX_PATTERN} characters long")));
        }
        let regex = RegexBuilder::new(&pattern)
            .case_insensitive(true)
            .size_limit(1 << 20)
            .build()
            .map_err(|why| TellModel(format!("`pattern` is not a regular expression: {why}")))?;
        let kept = find(&evidence, context).await?;
        let lines: Vec<&str> = kept.body.lines().collect();
        let found: Vec<usize> = (0..lines.len()).filter(|at| regex.is_match(lines[*at])).collect();
        let around = around.unwrap_or(0).min(MAX_CONTEXT);
        let summary = format!("{} of {} lines of {} match", found.len(), lines.len(), kept.id.mark());
        let query = format!("grep {pattern:?} in {}", kept.id.mark());
        let body = matches(&lines, &found, &regex, around);
        Ok(part_of(&kept, query, summary, body))
    }
}

fn matches(lines: &[&str], found: &[usize], regex: &Regex, around: usize) -> String {
    let (mut body, mut used, mut next, mut shown) = (String::new(), 0, 0, 0);
    for at in found.iter().take(MAX_MATCHES) {
        let (from, to) = (at.saturating_sub(around).max(next), (at + around + 1).min(lines.len()));
        let mut block = String::new();
        if around > 0 && from > next && next > 0 {
            block.push_str("--\n");
        }
        for line in from..to {
            let is_match = regex.is_match(lines[line]);
            let text = if is_match { around_match(lines[line], regex) } else { clip(lines[line], MAX_LINE) };
            block.push_str(&format!("{}{} {text}\n", line + 1, if is_match { ':' } else { '-' }));
        }
        used += block.chars().count();
        if used > ROOM {
            break;
        }
        body.push_str(&block);
        next = next.max(to);
        shown += 1;
    }
    if shown < found.len() {
        body.push_str(&format!(
            "[{} more matches, the next in line {}; make the pattern narrower, or page]",
            found.len() - shown,
            found[shown] + 1
        ));
    }
    if found.is_empty() { "nothing matches".to_owned() } else { body }
}

/// Of a long line the part that matches.
fn around_match(line: &str, regex: &Regex) -> String {
    let length = line.chars().count();
    let Some(found) = regex.find(line).filter(|_| length > MAX_LINE) else { return line.to_owned() };
    let before = line[..found.start()].chars().count();
    let from = before.saturating_sub(MAX_LINE / 2);
    let part: String = line.chars().skip(from).take(MAX_LINE).collect();
    format!("[from character {from} of {length}] …{part}…")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageArguments {
    evidence: String,
    from_line: usize,
    lines: Option<usize>,
}

#[async_trait]
impl Tool for Page {
    fn schema(&self) -> ToolSchema {
        schema(
            "evidence_page",
            "A part of a kept answer, by line. For answers that were too long to be shown.",
            json!({
                "evidence": {"type": "string", "description": "its mark, e.g. E6"},
                "from_line": {"type": "integer", "minimum": 1},
                "lines": {"type": "integer", "minimum": 1, "maximum": MAX_LINES, "description": "default 40"},
            }),
            &["evidence", "from_line"],
        )
    }

    fn terms(&self) -> Terms {
        Terms { keep: Keep::NotAgain, ..Terms::default() }
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let PageArguments { evidence, from_line, lines: wanted } = arguments(value)?;
        let kept = find(&evidence, context).await?;
        let lines: Vec<&str> = kept.body.lines().collect();
        if !(1..=lines.len()).contains(&from_line) {
            return Err(TellModel(format!("{} has the lines 1 to {}", kept.id.mark(), lines.len())));
        }
        let wanted = wanted.unwrap_or(40).clamp(1, MAX_LINES);
        let (mut body, mut used, mut to) = (String::new(), 0, from_line - 1);
        for line in lines.iter().skip(from_line - 1).take(wanted) {
            let row = format!("{} {}\n", to + 1, clip(line, MAX_LINE));
            used += row.chars().count();
            if used > ROOM {
                break;
            }
            body.push_str(&row);
            to += 1;
        }
        if to < lines.len() {
            body.push_str(&format!("[goes on; from_line: {}]", to + 1));
        }
        let summary = format!("lines {from_line} to {to} of {} of {}", lines.len(), kept.id.mark());
        let query = format!("{} from line {from_line}", kept.id.mark());
        Ok(part_of(&kept, query, summary, body))
    }
}

/// Only of the incident at hand: another one may be another tenant's.
async fn find(mark: &str, context: &ToolContext) -> Result<Evidence, TellModel> {
    let unknown = || TellModel(format!("there is no evidence {mark:?} in {}; marks look like E6", context.incident));
    let mark = mark.trim().trim_matches(['[', ']']);
    let own = format!("{}.", context.incident);
    let number: usize =
        mark.strip_prefix(&own).unwrap_or(mark).strip_prefix('E').and_then(|n| n.parse().ok()).ok_or_else(unknown)?;
    let owner = match &context.talk {
        Some((talk, before)) if number > *before => talk,
        Some(_) | None => &context.incident,
    };
    let id = owner.evidence(number);
    let kept =
        context.store.evidence(id.as_str()).await.map_err(|why| TellModel(format!("not available now: {why}")))?;
    kept.filter(|kept| kept.incident == *owner).ok_or_else(unknown)
}

fn part_of(kept: &Evidence, query: String, summary: String, body: String) -> Draft {
    Draft {
        kind: kept.kind,
        source: "evidence",
        query,
        summary,
        body,
        shown: None,
        series: vec![],
        taint: kept.taint,
        found: kept.found,
    }
}
