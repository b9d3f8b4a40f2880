//! How often a row is drawn with replacement: numbers of a Poisson distribution, as Spark draws them for a seed.
//!
//! Spark leaves it to Apache Commons Math: a product of uniform values of WELL19937c, until it falls below `exp(-mean)`.

use super::exponential::exp;

/// A stream of numbers of one mean.
#[derive(Debug)]
pub(super) struct Poisson {
    words: Well,
    mean: f64,
    /// The chance of 0.
    none: f64,
}

impl Poisson {
    /// The largest mean that numbers are drawn for in this way; Commons Math goes another beyond it.
    pub(super) const MAX_MEAN: f64 = 40.0;

    /// The stream of the first partition for a seed of the user's.
    pub(super) fn new(mean: f64, seed: i64) -> Self {
        Self { words: Well::new(first_long(seed)), mean, none: exp(-mean) }
    }

    pub(super) fn count(&mut self) -> i64 {
        if self.mean <= 0.0 {
            return 0;
        }
        let (mut count, mut product) = (0_i64, 1.0);
        while (count as f64) < 1000.0 * self.mean {
            product *= self.words.double();
            if product < self.none {
                break;
            }
            count += 1;
        }
        count
    }
}

/// The first value of Java's `Random`, from which Spark takes the seed of the first partition.
fn first_long(seed: i64) -> i64 {
    const MASK: u64 = (1 << 48) - 1;
    let mut state = (seed as u64 ^ 0x5_DEEC_E66D) & MASK;
    let mut next = || {
        state = state.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & MASK;
        i64::from((state >> 16) as i32)
    };
    let high = next();
    (high << 32).wrapping_add(next())
}

/// WELL19937c.
#[derive(Debug)]
struct Well {
    state: Box<[u32; Self::SIZE]>,
    at: usize,
}

impl Well {
    const SIZE: usize = 624;

    fn new(seed: i64) -> Self {
        let mut state = Box::new([0_u32; Self::SIZE]);
        state[0] = (seed as u64 >> 32) as u32;
        state[1] = seed as u32;
        for i in 2..Self::SIZE {
            let before = i64::from(state[i - 2] as i32);
            state[i] = 1_812_433_253_i64.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as i64) as u32;
        }
        Self { state, at: 0 }
    }

    fn word(&mut self) -> u32 {
        let place = |offset: usize| (self.at + offset) % Self::SIZE;
        let (before, second_before) = (place(Self::SIZE - 1), place(Self::SIZE - 2));
        let (v0, v1) = (self.state[self.at], self.state[place(70)]);
        let (v2, v3) = (self.state[place(179)], self.state[place(449)]);
        let z0 = (self.state[before] & 0x8000_0000) ^ (self.state[second_before] & 0x7fff_ffff);
        let z1 = (v0 ^ (v0 << 25)) ^ (v1 ^ (v1 >> 27));
        let z2 = (v2 >> 9) ^ (v3 ^ (v3 >> 1));
        let z3 = z1 ^ z2;
        let mut word = z0 ^ (z1 ^ (z1 << 9)) ^ (z2 ^ (z2 << 21)) ^ (z3 ^ (z3 >> 21));
        self.state[self.at] = z3;
        self.state[before] = word;
        self.state[second_before] &= 0x8000_0000;
        self.at = before;
        word ^= (word << 7) & 0xe46e_1700;
        word ^ ((word << 15) & 0x9b86_8000)
    }

    /// From 0 to 1, without 1.
    fn double(&mut self) -> f64 {
        let high = u64::from(self.word() >> 6) << 26;
        (high | u64::from(self.word() >> 6)) as f64 / (1_u64 << 52) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often Spark draws each row of `spark.range(0, 20, 1, 1)`.
    #[test]
    fn rows_are_drawn_as_often_as_by_spark() {
        let drawn = |mean, seed| {
            let mut stream = Poisson::new(mean, seed);
            (0..20).map(|_| stream.count().to_string()).collect::<String>()
        };
        assert_eq!(drawn(0.5, 3), "00000110001001000000");
        assert_eq!(drawn(1.5, 42), "01111113312401001341");
        assert_eq!(drawn(3.0, -7), "03245551513450324402");
    }
}
