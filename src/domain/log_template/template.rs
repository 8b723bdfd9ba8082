//! A template: the slots that a log statement prints, and how much two of them have in common.

use super::token::{Kind, Token, mark_hash, mix};
use super::words::{Grip, sense};

/// One place of a template.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub kind: SlotKind,
    pub spaced: bool,
    /// A word behind which a name is expected: `for`, `user`.
    pub introduces: bool,
    /// What was seen first, as byte offsets into the first line of the template.
    pub start: u32,
    pub end: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotKind {
    Word {
        hash: u64,
        grip: Grip,
    },
    Mark {
        hash: u64,
    },
    /// A value by position, the same one so far.
    Held {
        hash: u64,
    },
    /// One value; so far every one looked like a value.
    Value,
    /// One value, and plain words have stood here: names.
    Open,
    /// Any number of tokens.
    Gap,
}

/// What two sequences of slots share, if they can be one template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinship {
    /// Half words they agree on.
    pub matched: u32,
    /// Agreement that is asked for, given the places where they differ.
    pub cost: u32,
}

impl Kinship {
    pub fn is_same(self) -> bool {
        self.cost == 0
    }

    pub fn is_enough(self) -> bool {
        self.matched >= self.cost
    }
}

/// `slots` are emptied first.
pub fn slots_of(line: &str, tokens: &[Token], slots: &mut Vec<Slot>) {
    slots.clear();
    slots.extend(tokens.iter().map(|token| {
        let text = &line.as_bytes()[token.start as usize..token.end as usize];
        Slot {
            kind: match token.kind {
                Kind::Word(grip) => SlotKind::Word { hash: token.hash, grip },
                Kind::Mark => SlotKind::Mark { hash: token.hash },
                Kind::Held => SlotKind::Held { hash: token.hash },
                Kind::Value => SlotKind::Value,
            },
            spaced: token.spaced,
            introduces: matches!(token.kind, Kind::Word(_)) && sense(text).introduces_name(),
            start: token.start,
            end: token.end,
        }
    }));
    mark_infinitives(line, slots);
    hold_readings(line, slots);
}

/// `to spawn the instance`: before an article stands no name but a verb, and it is what happened.
fn mark_infinitives(line: &str, slots: &mut [Slot]) {
    for at in 2..slots.len() {
        if let SlotKind::Word { hash, grip: Grip::Plain } = slots[at - 1].kind
            && matches!(text_of(line, &slots[at]), b"the" | b"a" | b"an")
            && text_of(line, &slots[at - 2]) == b"to"
        {
            slots[at - 1].kind = SlotKind::Word { hash, grip: Grip::Firm };
        }
    }
}

/// `( on off on )`: one state alone tells what happened, several in brackets are readings.
fn hold_readings(line: &str, slots: &mut [Slot]) {
    let mut open = None;
    for at in 0..slots.len() {
        match text_of(line, &slots[at]) {
            b"(" | b"[" | b"{" => open = Some(at),
            b")" | b"]" | b"}" => {
                let Some(from) = open.take() else { continue };
                let inner = &mut slots[from + 1..at];
                if inner.len() >= 2 && inner.iter().all(|slot| is_state(line, slot)) {
                    inner.iter_mut().for_each(hold);
                }
            }
            _ => {}
        }
    }
}

fn is_state(line: &str, slot: &Slot) -> bool {
    matches!(slot.kind, SlotKind::Word { .. }) && sense(text_of(line, slot)).is_state()
}

fn hold(slot: &mut Slot) {
    if let SlotKind::Word { hash, .. } = slot.kind {
        slot.kind = SlotKind::Held { hash };
    }
}

fn text_of<'a>(line: &'a str, slot: &Slot) -> &'a [u8] {
    &line.as_bytes()[slot.start as usize..slot.end as usize]
}

/// The marks and function words with their places, and the number of slots: templates of one
/// length that differ here are never one, so only those that agree are compared.
pub fn skeleton(slots: &[Slot]) -> u64 {
    let mut skeleton = slots.len() as u64;
    for (place, slot) in slots.iter().enumerate() {
        match slot.kind {
            SlotKind::Mark { hash } | SlotKind::Word { hash, grip: Grip::Glue } => {
                skeleton = mix(skeleton, hash ^ place as u64);
            }
            SlotKind::Gap => skeleton = mix(skeleton, place as u64),
            SlotKind::Word { .. } | SlotKind::Held { .. } | SlotKind::Value | SlotKind::Open => {}
        }
    }
    skeleton
}

/// What is no value, wherever it stands: templates of different lengths that differ here are never one.
pub fn fixed_part(slots: &[Slot]) -> u64 {
    let mut sum = 0_u64;
    for slot in slots {
        match slot.kind {
            SlotKind::Mark { hash } => sum = sum.wrapping_add(hash),
            SlotKind::Word { hash, grip } if grip < Grip::Plain => sum = sum.wrapping_add(hash),
            SlotKind::Word { .. } | SlotKind::Held { .. } | SlotKind::Value | SlotKind::Open | SlotKind::Gap => {}
        }
    }
    sum
}

/// Compares slot by slot; `None`: a difference that no agreement outweighs.
pub fn kinship(one: &[Slot], other: &[Slot]) -> Option<Kinship> {
    if one.len() != other.len() {
        return None;
    }
    let mut kinship = Kinship { matched: 0, cost: 0 };
    for (place, (left, right)) in one.iter().zip(other).enumerate() {
        if let (SlotKind::Word { hash: a, grip }, SlotKind::Word { hash: b, .. }) = (left.kind, right.kind)
            && a == b
        {
            // Function words and keys are in many templates.
            kinship.matched += if grip == Grip::Glue { 1 } else { 2 };
            continue;
        }
        let cost = difference(left.kind, right.kind, || stance(one, place))?;
        kinship.cost += if place == 0 { 2 * cost } else { cost };
    }
    Some(kinship)
}

/// What the neighbours of a word say about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stance {
    /// Behind `for`, `user`: a name is expected here.
    Name,
    /// Before a value: says what kind of value it is.
    Label,
    Neutral,
}

pub fn stance(slots: &[Slot], place: usize) -> Stance {
    let before = place.checked_sub(1).and_then(|before| slots.get(before));
    if before.is_some_and(|slot| slot.introduces && matches!(slot.kind, SlotKind::Word { .. })) {
        return Stance::Name;
    }
    let mut behind = slots.iter().skip(place + 1);
    let next = behind.next().map(|slot| slot.kind);
    let quoted = next.is_some_and(assigns) && behind.next().is_some_and(|slot| is_value(slot.kind));
    if quoted || next.is_some_and(is_value) { Stance::Label } else { Stance::Neutral }
}

const ASSIGNING: [u64; 9] = [
    mark_hash(b'"'),
    mark_hash(b'\''),
    mark_hash(b'`'),
    mark_hash(b'('),
    mark_hash(b'['),
    mark_hash(b'{'),
    mark_hash(b'<'),
    mark_hash(b':'),
    mark_hash(b'='),
];

/// Whether a mark belongs to the value behind it; ` - ` and `,` only stand between.
fn assigns(kind: SlotKind) -> bool {
    let SlotKind::Mark { hash } = kind else { return false };
    ASSIGNING.contains(&hash)
}

/// What one differing place costs, in half words of agreement.
fn difference(left: SlotKind, right: SlotKind, stance: impl Fn() -> Stance) -> Option<u32> {
    use SlotKind::{Gap, Held, Mark, Open, Value, Word};
    match (left, right) {
        (Mark { hash: a }, Mark { hash: b }) if a == b => Some(0),
        (Word { grip: a, .. }, Word { grip: b, .. }) => match a.min(b) {
            Grip::Glue | Grip::Firm => None,
            Grip::Capital => (stance() == Stance::Name).then_some(3),
            Grip::Plain => Some(match stance() {
                Stance::Name => 6,
                Stance::Neutral => 10,
                Stance::Label => 16,
            }),
            Grip::Mixed | Grip::Loose | Grip::Unit => Some(4),
        },
        (Value | Held { .. } | Open, Value | Held { .. } | Open) => Some(0),
        (Open, Word { grip, .. }) | (Word { grip, .. }, Open) => match grip {
            Grip::Glue => None,
            Grip::Firm => Some(4),
            Grip::Capital => Some(if stance() == Stance::Name { 0 } else { 4 }),
            Grip::Plain | Grip::Mixed | Grip::Loose | Grip::Unit => Some(0),
        },
        (Value | Held { .. }, Word { grip, .. }) | (Word { grip, .. }, Value | Held { .. }) => match grip {
            Grip::Glue | Grip::Firm => None,
            Grip::Capital => (stance() == Stance::Name).then_some(3),
            Grip::Plain => Some(if stance() == Stance::Name { 4 } else { 10 }),
            Grip::Mixed | Grip::Loose | Grip::Unit => Some(4),
        },
        (Gap, Gap) => Some(0),
        (Gap, _) | (_, Gap) => None,
        (Mark { .. }, _) | (_, Mark { .. }) => None,
    }
}

fn is_value(kind: SlotKind) -> bool {
    matches!(kind, SlotKind::Value | SlotKind::Held { .. } | SlotKind::Open)
}

/// Makes `slots` cover `other` too; both of one length.
pub fn generalise(slots: &mut [Slot], other: &[Slot]) {
    for (slot, other) in slots.iter_mut().zip(other) {
        slot.kind = covering(slot.kind, other.kind);
    }
}

fn covering(left: SlotKind, right: SlotKind) -> SlotKind {
    use SlotKind::{Gap, Held, Mark, Open, Value, Word};
    match (left, right) {
        (Word { hash: a, .. }, Word { hash: b, .. })
        | (Mark { hash: a }, Mark { hash: b })
        | (Held { hash: a }, Held { hash: b })
            if a == b =>
        {
            left
        }
        (Gap, _) | (_, Gap) => Gap,
        (Word { .. } | Open, _) | (_, Word { .. } | Open) => Open,
        (Value | Held { .. } | Mark { .. }, Value | Held { .. } | Mark { .. }) => Value,
    }
}

/// Whether `slots`, which hold one gap, cover `line`.
pub fn spans(slots: &[Slot], line: &[Slot]) -> bool {
    let Some(gap) = slots.iter().position(|slot| slot.kind == SlotKind::Gap) else { return false };
    let (head, tail) = (&slots[..gap], &slots[gap + 1..]);
    if line.len() < head.len() + tail.len() {
        return false;
    }
    let middle = &line[head.len()..line.len() - tail.len()];
    let same = |one: &[Slot], other: &[Slot]| kinship(one, other).is_some_and(Kinship::is_same);
    let free = tail.is_empty() || middle.iter().all(|slot| is_value_like(slot.kind));
    free && same(head, &line[..head.len()]) && same(tail, &line[line.len() - tail.len()..])
}

/// Could be a value, or a part of one.
pub fn is_value_like(kind: SlotKind) -> bool {
    match kind {
        SlotKind::Word { grip, .. } => grip >= Grip::Plain,
        SlotKind::Mark { .. } => false,
        SlotKind::Held { .. } | SlotKind::Value | SlotKind::Open | SlotKind::Gap => true,
    }
}

/// `Failed password for <*> from <*> port <*> ssh2`
pub fn render(line: &str, slots: &[Slot]) -> String {
    let mut text = String::with_capacity(slots.len() * 8);
    for slot in slots {
        let shown = match slot.kind {
            SlotKind::Word { .. } | SlotKind::Mark { .. } | SlotKind::Held { .. } => {
                line.get(slot.start as usize..slot.end as usize).unwrap_or_default()
            }
            SlotKind::Value | SlotKind::Open | SlotKind::Gap => "<*>",
        };
        // Neighbouring values are one value, and a gap that is empty leaves no white space.
        if shown == "<*>" && text.ends_with("<*>") {
            continue;
        }
        if slot.spaced && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(shown);
    }
    text
}
