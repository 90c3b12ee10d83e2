//! A sequence of numbers from a seed: what makes a run at random one that can be had again.

#![allow(dead_code)] // Each test file uses its own part.

/// splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): any seed is as good as any other.
pub struct Dice(u64);

impl Dice {
    pub fn from(seed: u64) -> Self {
        Self(seed)
    }

    /// `WARREN_SEED`, or one that no other run has. It is printed, so that the run can be had again.
    pub fn thrown() -> Self {
        let given = std::env::var("WARREN_SEED").ok().and_then(|n| n.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
        eprintln!("WARREN_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..sides`; of none at all, 0.
    pub fn below(&mut self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.below(of.len())]) }
    }
}
