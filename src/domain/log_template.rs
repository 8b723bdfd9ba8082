//! The shape of a line of log: what varies from line to line is masked.

/// `order 8123 failed after 5003ms` and `order 9 failed after 12ms` are one template.
///
/// Words that carry digits become `<*>`, quoted parts and long hexadecimal words too: they are
/// ids, addresses, instants or amounts. What is left is what the programmer wrote.
pub fn template_of(line: &str) -> String {
    let mut template = String::with_capacity(line.len());
    for word in line.split_whitespace().take(40) {
        let masked = mask(word);
        // A run of variable words is one variable part.
        if masked == "<*>" && template.ends_with("<*>") {
            continue;
        }
        if !template.is_empty() {
            template.push(' ');
        }
        template.push_str(&masked);
    }
    template
}

fn mask(word: &str) -> String {
    let core = word.trim_matches(|c: char| matches!(c, '"' | '\'' | ',' | ';' | '(' | ')' | '[' | ']' | '.'));
    if let Some((key, value)) = core.split_once('=')
        && varies(value)
    {
        return format!("{key}=<*>");
    }
    if varies(core) { "<*>".into() } else { word.to_owned() }
}

fn varies(text: &str) -> bool {
    let hex = text.len() >= 8 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    // Names of things keep their digit (`x509`, `http2`, `node-3` does not: it names one host).
    let named = text.len() <= 5 && text.chars().next().is_some_and(|c| c.is_ascii_alphabetic()) && !text.contains('-');
    hex || (text.chars().any(|c| c.is_ascii_digit()) && !named)
}

#[cfg(test)]
mod tests {
    use super::template_of;

    #[test]
    fn numbers_ids_and_instants_are_masked() {
        let one = template_of("2026-11-20T02:17:00Z ERROR order 8123 failed after 5003ms trace=9f86d081884c7d65");
        let other = template_of("2026-11-20T03:01:10Z ERROR order 9 failed after 12ms trace=ab86d081884c7d00");
        assert_eq!(one, other);
        assert_eq!(one, "<*> ERROR order <*> failed after <*> trace=<*>");
        assert_eq!(template_of("x509: certificate has expired"), "x509: certificate has expired");
    }
}
