//! The only source of chance in the domain: seeded, so that every decision can be repeated.

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014.
#[derive(Debug, Clone)]
pub struct SplitMix(u64);

impl SplitMix {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `0..bound`; 0 for a bound of 0.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Uniform in [0, 1).
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Draws without replacement, again and again, from the same `0..len`.
///
/// A partial Fisher-Yates shuffle is uniform from whatever order it starts in, so the order is kept
/// from draw to draw: a draw costs its own size, not the size of the population.
pub(super) struct Urn(Vec<usize>);

impl Urn {
    pub(super) fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    pub(super) fn draw(&mut self, count: usize, random: &mut SplitMix) -> &[usize] {
        let count = count.min(self.0.len());
        for at in 0..count {
            let other = at + random.below(self.0.len() - at);
            self.0.swap(at, other);
        }
        &self.0[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_has_no_duplicates_and_every_number_is_drawn_equally_often() {
        let (mut urn, mut random) = (Urn::new(50), SplitMix::new(3));
        let mut drawn = [0u32; 50];
        for _ in 0..5_000 {
            let mut picked = urn.draw(10, &mut random).to_vec();
            picked.iter().for_each(|at| drawn[*at] += 1);
            picked.sort_unstable();
            picked.dedup();
            assert_eq!(picked.len(), 10);
        }
        // Expected 1,000 each with a standard deviation of 28.
        assert!(drawn.iter().all(|times| (850..1150).contains(times)), "{drawn:?}");
    }
}
