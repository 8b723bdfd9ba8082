//! Who calls whom, in layers: callers on top, what they depend on below.
//!
//! The cause is red, what suffers is amber; both are also written, for readers who do not see
//! colour. At most three nodes stand in a row, so that names stay readable on a phone.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::chart::{clip, escape, open};
use super::view::{Edge, Node, NodeState};

const PER_ROW: usize = 3;
const NODE_WIDTH: f64 = 130.0;
const NODE_HEIGHT: f64 = 40.0;
const ROW: f64 = 74.0;
const MARGIN: f64 = 14.0;
const PAPER: f64 = 440.0;
/// Beyond this a picture tells nothing; those that matter come first.
const MOST_NODES: usize = 40;

pub fn topology_svg(nodes: &[Node], edges: &[Edge]) -> String {
    let (shown, hidden) = choose(nodes);
    let links = links_between(&shown, edges);
    let rows = rows(shown.len(), &links);
    let hidden = told(&hidden);
    let foot = if hidden.is_some() { 20.0 } else { 0.0 };
    let height = MARGIN * 2.0 + (rows.len().max(1) as f64 - 1.0) * ROW + NODE_HEIGHT + foot;
    let mut svg = open(height, "Topology: callers above what they depend on");
    svg.push_str(concat!(
        r#"<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path class="head" d="M0 0 8 4 0 8z"/></marker>"#,
        r#"<marker id="h" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto"><path class="head hot" d="M0 0 8 4 0 8z"/></marker></defs>"#
    ));
    let places = places(&rows);
    for (from, to) in &links {
        let (Some(start), Some(end)) = (places.get(from), places.get(to)) else { continue };
        let hot = [from, to].iter().all(|node| shown.get(**node).is_some_and(|node| node.state != NodeState::Ok));
        draw_edge(&mut svg, *start, *end, hot);
    }
    for (index, node) in shown.iter().enumerate() {
        if let Some(place) = places.get(&index) {
            draw_node(&mut svg, node, *place);
        }
    }
    if shown.is_empty() {
        svg.push_str(r#"<text class="faint" x="14" y="38">no topology known</text>"#);
    }
    if let Some(hidden) = hidden {
        let _ = write!(svg, r#"<text class="small" x="14" y="{}">{hidden}</text>"#, height - 10.0);
    }
    svg.push_str("</svg>");
    svg
}

/// Cause and affected first when there are too many; otherwise the given order. Gives those that are shown, and
/// those that are not.
fn choose(nodes: &[Node]) -> (Vec<&Node>, Vec<&Node>) {
    let mut shown: Vec<&Node> = nodes.iter().collect();
    if shown.len() <= MOST_NODES {
        return (shown, vec![]);
    }
    shown.sort_by_key(|node| match node.state {
        NodeState::Cause => 0,
        NodeState::Affected => 1,
        NodeState::Ok => 2,
    });
    let hidden = shown.split_off(MOST_NODES);
    (shown, hidden)
}

/// `and 20 more that are affected, 3 that are well`
fn told(hidden: &[&Node]) -> Option<String> {
    let count = |state: NodeState| hidden.iter().filter(|node| node.state == state).count();
    let words = [
        (count(NodeState::Cause), "a cause", "causes"),
        (count(NodeState::Affected), "affected", "affected"),
        (count(NodeState::Ok), "well", "well"),
    ];
    let mut told = vec![];
    for (count, one, many) in words.into_iter().filter(|(count, ..)| *count > 0) {
        let more = if told.is_empty() { " more" } else { "" };
        told.push(if count == 1 { format!("1{more} that is {one}") } else { format!("{count}{more} that are {many}") });
    }
    (!told.is_empty()).then(|| format!("and {}", told.join(", ")))
}

fn links_between(shown: &[&Node], edges: &[Edge]) -> Vec<(usize, usize)> {
    let index: HashMap<&str, usize> = shown.iter().enumerate().map(|(i, node)| (node.id.as_str(), i)).collect();
    let mut links: Vec<_> = edges
        .iter()
        .filter_map(|edge| Some((*index.get(edge.from.as_str())?, *index.get(edge.to.as_str())?)))
        .filter(|(from, to)| from != to)
        .collect();
    links.sort_unstable();
    links.dedup();
    links
}

/// Longest path from the callers, cycles cut where they close; then wide layers are wrapped.
fn rows(nodes: usize, links: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut depth = vec![0usize; nodes];
    let forward = without_cycles(nodes, links);
    // At most one pass per node: the longest path has fewer edges than there are nodes.
    for _ in 0..nodes {
        let mut settled = true;
        for (from, to) in &forward {
            let below = depth.get(*from).map_or(0, |d| d + 1);
            if let Some(own) = depth.get_mut(*to)
                && *own < below
            {
                *own = below;
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
    let mut layers: Vec<Vec<usize>> = vec![vec![]; depth.iter().max().map_or(0, |deepest| deepest + 1)];
    for (node, layer) in depth.iter().enumerate() {
        if let Some(layer) = layers.get_mut(*layer) {
            layer.push(node);
        }
    }
    untangle(&mut layers, &forward);
    layers.iter().flat_map(|layer| wrap(layer)).collect()
}

/// Evenly: four nodes are two and two, never three and one.
fn wrap(layer: &[usize]) -> Vec<Vec<usize>> {
    let lines = layer.len().div_ceil(PER_ROW).max(1);
    layer.chunks(layer.len().div_ceil(lines).max(1)).map(<[usize]>::to_vec).collect()
}

fn without_cycles(nodes: usize, links: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut kept: Vec<(usize, usize)> = vec![];
    for link in links {
        if !reaches(nodes, &kept, link.1, link.0) {
            kept.push(*link);
        }
    }
    kept
}

fn reaches(nodes: usize, links: &[(usize, usize)], from: usize, to: usize) -> bool {
    let mut seen = vec![false; nodes];
    let mut todo = vec![from];
    while let Some(node) = todo.pop() {
        if node == to {
            return true;
        }
        if let Some(seen) = seen.get_mut(node)
            && !std::mem::replace(seen, true)
        {
            todo.extend(links.iter().filter(|(start, _)| *start == node).map(|(_, end)| *end));
        }
    }
    false
}

/// Each layer ordered by where its callers stand: fewer crossings (barycentre heuristic, two passes).
fn untangle(layers: &mut [Vec<usize>], links: &[(usize, usize)]) {
    for _ in 0..2 {
        let mut column: HashMap<usize, f64> = HashMap::new();
        for layer in layers.iter_mut() {
            let middle = |node: usize| {
                let above: Vec<f64> = links
                    .iter()
                    .filter(|(_, to)| *to == node)
                    .filter_map(|(from, _)| column.get(from).copied())
                    .collect();
                if above.is_empty() { 0.5 } else { above.iter().sum::<f64>() / above.len() as f64 }
            };
            let mut order: Vec<(usize, f64)> = layer.iter().map(|node| (*node, middle(*node))).collect();
            order.sort_by(|a, b| a.1.total_cmp(&b.1));
            *layer = order.into_iter().map(|(node, _)| node).collect();
            let width = layer.len() as f64;
            column.extend(layer.iter().enumerate().map(|(i, node)| (*node, (i as f64 + 0.5) / width)));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct At {
    x: f64,
    y: f64,
}

/// The upper left corners.
fn places(rows: &[Vec<usize>]) -> HashMap<usize, At> {
    let mut places = HashMap::new();
    for (line, row) in rows.iter().enumerate() {
        let slot = (PAPER - MARGIN * 2.0) / row.len().max(1) as f64;
        for (column, node) in row.iter().enumerate() {
            let x = MARGIN + slot * (column as f64 + 0.5) - NODE_WIDTH / 2.0;
            places.insert(*node, At { x, y: MARGIN + line as f64 * ROW });
        }
    }
    places
}

fn draw_edge(svg: &mut String, from: At, to: At, hot: bool) {
    let (class, head) = if hot { ("edge hot", "h") } else { ("edge", "a") };
    let (x1, x2) = (from.x + NODE_WIDTH / 2.0, to.x + NODE_WIDTH / 2.0);
    let path = if to.y > from.y {
        let (y1, y2) = (from.y + NODE_HEIGHT, to.y - 1.0);
        let bend = (y2 - y1).min(48.0) * 0.6;
        format!("M{x1:.1} {y1:.1}C{x1:.1} {:.1} {x2:.1} {:.1} {x2:.1} {y2:.1}", y1 + bend, y2 - bend)
    } else {
        // Back up or sideways: around the right-hand side.
        let (y1, y2) = (from.y + NODE_HEIGHT / 2.0, to.y + NODE_HEIGHT / 2.0);
        let (x1, x2) = (from.x + NODE_WIDTH, to.x + NODE_WIDTH + 1.0);
        let out = x1.max(x2) + 12.0;
        format!("M{x1:.1} {y1:.1}C{out:.1} {y1:.1} {out:.1} {y2:.1} {x2:.1} {y2:.1}")
    };
    let _ = write!(svg, r#"<path class="{class}" d="{path}" marker-end="url(#{head})"/>"#);
}

fn draw_node(svg: &mut String, node: &Node, at: At) {
    let (class, says) = match node.state {
        NodeState::Cause => ("cause", " · cause"),
        NodeState::Affected => ("affected", " · affected"),
        NodeState::Ok => ("ok", ""),
    };
    let _ = write!(
        svg,
        r#"<g><title>{full}</title><rect class="node {class}" x="{x:.1}" y="{y:.1}" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="5"/><text class="name" x="{mid:.1}" y="{name_y:.1}" text-anchor="middle">{name}</text><text class="small {class}-text" x="{mid:.1}" y="{kind_y:.1}" text-anchor="middle">{kind}{says}</text></g>"#,
        full = escape(&node.id),
        x = at.x,
        y = at.y,
        mid = at.x + NODE_WIDTH / 2.0,
        name_y = at.y + 17.0,
        name = escape(&shorten(&node.id)),
        kind_y = at.y + 32.0,
        kind = escape(&clip(&node.kind, 10)),
    );
}

/// Both ends of a long name tell something: the service and the pod's suffix.
fn shorten(name: &str) -> String {
    const MOST: usize = 18;
    let letters: Vec<char> = name.chars().collect();
    match (letters.get(..10), letters.get(letters.len().saturating_sub(7)..)) {
        (Some(start), Some(end)) if letters.len() > MOST => start.iter().chain(&['…']).chain(end).collect(),
        (_, _) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, state: NodeState) -> Node {
        Node { id: id.into(), kind: "service".into(), state }
    }

    fn edge(from: &str, to: &str) -> Edge {
        Edge { from: from.into(), to: to.into() }
    }

    fn overlapping(nodes: usize, links: &[(usize, usize)]) -> usize {
        let places: Vec<At> = places(&rows(nodes, links)).into_values().collect();
        assert_eq!(places.len(), nodes, "every node has a place");
        let clash = |a: &At, b: &At| (a.x - b.x).abs() < NODE_WIDTH && (a.y - b.y).abs() < NODE_HEIGHT;
        places.iter().enumerate().map(|(i, a)| places.iter().skip(i + 1).filter(|b| clash(a, b)).count()).sum()
    }

    #[test]
    fn callers_stand_above_what_they_call() {
        let rows = rows(3, &[(2, 0), (0, 1), (2, 1)]);
        assert_eq!(rows, vec![vec![2], vec![0], vec![1]]);
    }

    #[test]
    fn a_cycle_is_cut_and_drawn() {
        let rows = rows(3, &[(0, 1), (1, 2), (2, 0)]);
        assert_eq!(rows.len(), 3);
        let nodes: Vec<_> = ["a", "b", "c"].into_iter().map(|id| node(id, NodeState::Ok)).collect();
        let svg = topology_svg(&nodes, &[edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("a", "a")]);
        assert_eq!(svg.matches("marker-end").count(), 3, "the self call is left out");
    }

    #[test]
    fn twenty_five_nodes_never_overlap() {
        assert_eq!(overlapping(25, &[]), 0);
        let star: Vec<_> = (1..25).map(|leaf| (0, leaf)).collect();
        assert_eq!(overlapping(25, &star), 0);
        let mesh: Vec<_> = (0..25).flat_map(|a| [(a, (a * 7 + 3) % 25), (a, (a * 5 + 1) % 25)]).collect();
        assert_eq!(overlapping(25, &mesh), 0);
    }

    #[test]
    fn names_are_escaped_and_states_are_written() {
        let nodes = [node("<script>x</script>", NodeState::Cause), node("pay\"ments", NodeState::Affected)];
        let svg = topology_svg(&nodes, &[edge("pay\"ments", "<script>x</script>"), edge("gone", "nowhere")]);
        assert!(!svg.contains("<script>") && svg.contains("service · cause") && svg.contains("service · affected"));
        assert!(topology_svg(&[], &[]).contains("no topology known"));
    }

    #[test]
    fn the_cause_is_kept_when_there_are_too_many() {
        let mut nodes: Vec<_> = (0..60).map(|i| node(&format!("n{i}"), NodeState::Ok)).collect();
        nodes.push(node("culprit", NodeState::Cause));
        let svg = topology_svg(&nodes, &[]);
        assert!(svg.contains("culprit") && svg.contains("and 21 more that are well<"));
    }

    /// Whoever reads the picture must not take those for well that it has no room for.
    #[test]
    fn what_has_no_room_is_counted_by_its_state() {
        let mut nodes: Vec<_> = (0..59).map(|i| node(&format!("a{i}"), NodeState::Affected)).collect();
        nodes.extend((0..3).map(|i| node(&format!("w{i}"), NodeState::Ok)));
        nodes.push(node("culprit", NodeState::Cause));
        assert!(topology_svg(&nodes, &[]).contains(">and 20 more that are affected, 3 that are well<"));
        nodes.truncate(41);
        assert!(topology_svg(&nodes, &[]).contains(">and 1 more that is affected<"));
        nodes.truncate(40);
        assert!(!topology_svg(&nodes, &[]).contains("more that"));
    }
}
