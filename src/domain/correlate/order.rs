//! Causal order learned from the past: after whom does who alert, and which kind of alert leads which?

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::time::Timestamp;

/// How often one subject's first alert came within a few minutes after another's.
#[derive(Debug, Default)]
pub(super) struct Order {
    recent: VecDeque<(u32, Timestamp)>,
    times: FxHashMap<u32, u32>,
    /// By who came after: who had come before, and how often. Together, since an alert asks for all of one.
    followed: FxHashMap<u32, FxHashMap<u32, u32>>,
    /// In `followed`.
    pairs: usize,
    kinds: Precedence,
}

/// Which kinds of alerts, by their names, come first between two services of which one calls the
/// other. What is learned on one pair of services speaks for all.
#[derive(Debug, Default)]
struct Precedence {
    names: FxHashMap<Arc<str>, u32>,
    /// How often a kind was in an incident.
    times: FxHashMap<u32, u32>,
    /// How often the first kind came before the second.
    led: FxHashMap<(u32, u32), u32>,
}

const FOLLOWS: Duration = Duration::from_secs(300);
const RECENT: usize = 32;
/// Over the bound what came once goes: it says nothing. Where too much has come back, all that was counted
/// counts half, so that shares stay as they are and there is room for what is new.
const MAX_PAIRS: usize = 100_000;
const ENOUGH: usize = MAX_PAIRS / 4 * 3;
/// Fewer observations than this say nothing.
const MIN_TIMES: u32 = 3;
/// Kinds speak for services that have never been seen together: they need more of a past.
const MIN_LED: u32 = 5;
/// The share of the pairs in which one kind must have been the first to be the one that leads.
const LEADS: f64 = 0.8;
const MAX_KINDS: usize = 5_000;

impl Order {
    pub fn activated(&mut self, node: u32, at: Timestamp) {
        while self.recent.len() >= RECENT || self.recent.front().is_some_and(|(_, then)| at.since(*then) > FOLLOWS) {
            self.recent.pop_front();
        }
        let earlier = self.recent.iter().filter(|(before, then)| *before != node && *then <= at);
        if earlier.clone().next().is_some() {
            let followed = self.followed.entry(node).or_default();
            self.pairs -= followed.len();
            if followed.is_empty() {
                followed.reserve(self.recent.len());
            }
            earlier.for_each(|(before, _)| *followed.entry(*before).or_default() += 1);
            self.pairs += followed.len();
        }
        *self.times.entry(node).or_default() += 1;
        self.recent.push_back((node, at));
        if self.pairs > MAX_PAIRS {
            self.count_anew(but_once);
            while self.pairs > ENOUGH {
                self.times.values_mut().for_each(halve);
                self.count_anew(|times| times / 2);
            }
        }
    }

    fn count_anew(&mut self, anew: impl Fn(u32) -> u32) {
        self.followed.values_mut().for_each(|followed| count_anew(followed, &anew));
        self.followed.retain(|_, followed| !followed.is_empty());
        self.pairs = self.followed.values().map(FxHashMap::len).sum();
    }

    /// Whether the node has followed anybody. What alerts for the first time has not.
    pub fn has_followed(&self, node: u32) -> bool {
        self.followed.contains_key(&node)
    }

    /// The share of `before`'s alerts that `after` followed, once there are enough of them; and how many.
    pub fn share(&self, before: u32, after: u32) -> Option<(f64, u32)> {
        let followed = *self.followed.get(&after)?.get(&before)?;
        let times = *self.times.get(&before)?;
        (followed >= MIN_TIMES).then(|| ((f64::from(followed) / f64::from(times.max(1))).min(1.0), followed))
    }

    /// An alert of the kind `name` began at `at`, in an incident in which its neighbours `related` had
    /// begun before with alerts of these names.
    pub fn began<'a>(
        &mut self,
        name: &Arc<str>,
        at: Timestamp,
        related: impl Iterator<Item = (&'a Arc<str>, Timestamp)>,
    ) {
        let Some(this) = self.kinds.number(name) else { return };
        *self.kinds.times.entry(this).or_default() += 1;
        for (other, then) in related {
            if then <= at
                && at.since(then) <= FOLLOWS
                && let Some(other) = self.kinds.number(other)
                && other != this
            {
                *self.kinds.led.entry((other, this)).or_default() += 1;
            }
        }
        if self.kinds.led.len() > MAX_PAIRS {
            count_anew(&mut self.kinds.led, but_once);
            while self.kinds.led.len() > ENOUGH {
                self.kinds.times.values_mut().for_each(halve);
                count_anew(&mut self.kinds.led, |times| times / 2);
            }
        }
    }

    /// How often alerts of the kind `before` are followed by `after` next to them, if that is the order
    /// in which they come: 0 to 1.
    pub fn leads(&self, before: &str, after: &str) -> f64 {
        let number = |name: &str| self.kinds.names.get(name).copied();
        let (Some(before), Some(after)) = (number(before), number(after)) else { return 0.0 };
        let led = |one: u32, other: u32| self.kinds.led.get(&(one, other)).copied().unwrap_or(0);
        let (forward, backward) = (led(before, after), led(after, before));
        let first = f64::from(forward) / f64::from((forward + backward).max(1));
        if forward < MIN_LED || first < LEADS {
            return 0.0;
        }
        let times = self.kinds.times.get(&before).copied().unwrap_or(0);
        (f64::from(forward) / f64::from(times.max(1))).min(1.0)
    }

    /// Subjects that have just begun to alert, newest first.
    pub fn recent(&self, at: Timestamp) -> impl Iterator<Item = u32> + '_ {
        self.recent.iter().rev().filter(move |(_, then)| at.abs_diff(*then) <= FOLLOWS).map(|(node, _)| *node)
    }
}

impl Precedence {
    /// `None`: there are too many kinds already; new ones are not learned.
    fn number(&mut self, name: &Arc<str>) -> Option<u32> {
        if let Some(known) = self.names.get(name) {
            return Some(*known);
        }
        let next = self.names.len();
        (next < MAX_KINDS).then(|| {
            self.names.insert(name.clone(), next as u32);
            next as u32
        })
    }
}

/// What comes to nothing is forgotten.
fn count_anew<K>(counted: &mut FxHashMap<K, u32>, anew: impl Fn(u32) -> u32) {
    counted.retain(|_, times| {
        *times = anew(*times);
        *times > 0
    });
}

fn but_once(times: u32) -> u32 {
    if times > 1 { times } else { 0 }
}

/// Rounded up: who has alerted at all is not forgotten, and no share grows by it.
fn halve(times: &mut u32) {
    *times = times.div_ceil(2);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(second)
    }

    #[test]
    fn who_has_come_after_another_three_times_follows_it() {
        let mut order = Order::default();
        assert!(!order.has_followed(2));
        for hour in 0..4 {
            order.activated(1, at(hour * 3_600));
            order.activated(2, at(hour * 3_600 + 60));
            assert_eq!(order.share(1, 2), (hour >= 2).then_some((1.0, hour as u32 + 1)));
        }
        assert!(order.has_followed(2) && !order.has_followed(1));
        assert_eq!((order.share(2, 1), order.pairs), (None, 1));
    }

    #[test]
    fn pairs_are_bounded_and_those_that_came_back_stay() {
        let mut order = Order::default();
        for hour in 0..3 {
            order.activated(1, at(hour * 3_600));
            order.activated(2, at(hour * 3_600 + 1));
        }
        for node in 10..10_000 {
            order.activated(node, at(100_000 + i64::from(node)));
            assert!(order.pairs <= MAX_PAIRS);
        }
        assert_eq!(order.pairs, order.followed.values().map(FxHashMap::len).sum::<usize>());
        assert_eq!(order.share(1, 2), Some((1.0, 3)));
    }

    /// Groups of subjects that alert one after the other, each group four times before the next one begins.
    #[test]
    fn what_all_comes_back_is_bounded_too_and_shares_stay() {
        const GROUP: u32 = 30;
        let (mut order, mut second) = (Order::default(), 0);
        for _ in 0..32 {
            order.activated(1, at(second));
            order.activated(2, at(second + 1));
            second += 1_000;
        }
        for group in 1..300 {
            for _ in 0..4 {
                for one in 0..GROUP {
                    order.activated(group * 100 + one, at(second));
                    assert!(order.pairs <= MAX_PAIRS);
                    second += 1;
                }
                second += 1_000;
            }
        }
        assert_eq!(order.pairs, order.followed.values().map(FxHashMap::len).sum::<usize>());
        assert_eq!(order.share(1, 2).map(|(share, _)| share), Some(1.0), "often enough to be known after it");
        assert_eq!(order.share(29_900, 29_901), Some((1.0, 4)), "there is room for what is new");
    }

    #[test]
    fn kinds_that_all_come_back_are_bounded_too() {
        let mut order = Order::default();
        let names: Vec<Arc<str>> = (0..400).map(|number| format!("Alert{number}").into()).collect();
        for name in &names {
            for _ in 0..2 {
                order.began(name, at(60), names.iter().map(|other| (other, at(0))));
                assert!(order.kinds.led.len() <= MAX_PAIRS);
            }
        }
    }
}
