//! How often keys were asked for lately, in a few bits each, for keys that are kept and keys that aren't: a count-min
//! sketch (Cormode and Muthukrishnan, 2005), raised conservatively (Estan and Varghese, 2002), that is halved from time to time, as in `TinyLFU` (Einziger, Friedman and
//! Manes, 2017).

/// Four counters of four bits for each key; the least of them is the estimate.
const ROWS: u32 = 4;
/// The highest count.
pub(super) const MOST: u8 = 15;
/// Words of the largest sketch, 32 MB; of more keys the estimates are coarser.
const MOST_WORDS: usize = 1 << 22;
/// So many counters there are in a word.
const COUNTERS: u64 = 16;
/// Each counter without its highest bit, after a shift.
const HALVES: u64 = 0x7777_7777_7777_7777;

#[derive(Debug)]
pub(super) struct Frequencies {
    words: Vec<u64>,
    mask: u64,
}

impl Frequencies {
    /// For about as many keys as a cache keeps.
    pub(super) fn new(capacity: usize) -> Self {
        let words = capacity.clamp(4, MOST_WORDS).next_power_of_two();
        Self {
            words: vec![0; words],
            mask: words as u64 - 1,
        }
    }

    /// Word and shift of the counter in a row.
    fn place(&self, hash: u64, row: u32) -> (usize, u64) {
        const SEEDS: [u64; ROWS as usize] = [
            0xc3a5_c85c_97cb_3127,
            0xb492_b66f_be98_f273,
            0x9ae1_6a3b_2f90_404f,
            0xcbf2_9ce4_8422_2325,
        ];
        let mixed = (hash ^ (hash >> 29)).wrapping_mul(SEEDS[row as usize]);
        let spread = mixed ^ (mixed >> 32);
        // The mask is below the number of words, which fits.
        #[allow(clippy::cast_possible_truncation)]
        let word = (spread & self.mask) as usize;
        let counter = (spread >> 58) % COUNTERS;
        (word, counter * 4)
    }

    /// Counts one more request for a key.
    pub(super) fn add(&mut self, hash: u64) {
        self.raise(hash, (self.of(hash) + 1).min(MOST));
    }

    /// A key was asked for at least so often.
    pub(super) fn raise(&mut self, hash: u64, count: u8) {
        let count = u64::from(count);
        for row in 0..ROWS {
            let (word, shift) = self.place(hash, row);
            if let Some(word) = self.words.get_mut(word)
                && (*word >> shift) & u64::from(MOST) < count
            {
                *word = *word & !(u64::from(MOST) << shift) | count << shift;
            }
        }
    }

    /// Halves all counts.
    pub(super) fn halve(&mut self) {
        for word in &mut self.words {
            *word = (*word >> 1) & HALVES;
        }
    }

    /// About how often a key was asked for lately; never less than it was since the last halving.
    #[allow(clippy::cast_possible_truncation)] // four bits
    pub(super) fn of(&self, hash: u64) -> u8 {
        let counts = (0..ROWS).map(|row| {
            let (word, shift) = self.place(hash, row);
            self.words
                .get(word)
                .map_or(0, |word| (*word >> shift) as u8 & MOST)
        });
        counts.min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Frequencies;

    #[test]
    fn counts_are_never_too_low_and_stop_at_fifteen() {
        let mut frequencies = Frequencies::new(64);
        let hash = |key: u8| u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for key in 0..20 {
            (0..key).for_each(|_| frequencies.add(hash(key)));
        }
        frequencies.raise(hash(1), 12);
        for key in 0..20 {
            let least = if key == 1 { 12 } else { key.min(15) };
            let count = frequencies.of(hash(key));
            assert!((least..=15).contains(&count), "{key}: {count}");
        }
    }

    #[test]
    fn what_was_asked_for_long_ago_counts_half_and_half_again() {
        let mut frequencies = Frequencies::new(64);
        frequencies.raise(1, 13);
        let counts = [(); 5].map(|()| {
            frequencies.halve();
            frequencies.of(1)
        });
        assert_eq!(counts, [6, 3, 1, 0, 0]);
    }
}
