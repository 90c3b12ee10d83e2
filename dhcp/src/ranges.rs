//! A set of integers kept as disjoint, non-adjacent intervals.
//!
//! This is what makes allocation O(log n) whatever the size of the pool: the next free address after a cursor is the
//! end of the interval the cursor lies in, plus one. A /16 with 10,000 owners handed out in sequence is a single
//! interval; a /64 costs no more than a /24. Addresses of both families are their integer value in a `u128`.

use std::collections::BTreeMap;

/// A set of `u128` stored as coalesced closed intervals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    /// First member of an interval -> its last member.
    spans: BTreeMap<u128, u128>,
}

impl RangeSet {
    /// Is `value` a member?
    pub(crate) fn contains(&self, value: u128) -> bool {
        self.span_at(value).is_some()
    }

    /// Adds every value from `first` to `last` inclusive; nothing when `first > last`.
    pub(crate) fn insert(&mut self, first: u128, last: u128) {
        if first > last {
            return;
        }
        let (mut low, mut high) = (first, last);
        // An interval that contains or touches `first` from below.
        if let Some((&start, &end)) = self.spans.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            low = start;
            high = high.max(end);
        }
        // Every interval that starts inside, or right after, what we now cover is swallowed.
        while let Some((&start, &end)) = self.spans.range(low..=high.saturating_add(1)).next() {
            high = high.max(end);
            self.spans.remove(&start);
        }
        self.spans.insert(low, high);
    }

    /// Removes one value; `false` if it was not a member.
    pub(crate) fn remove(&mut self, value: u128) -> bool {
        let Some((start, end)) = self.span_at(value) else { return false };
        self.spans.remove(&start);
        if start < value {
            self.spans.insert(start, value - 1);
        }
        if value < end {
            self.spans.insert(value + 1, end);
        }
        true
    }

    /// The smallest non-member in `from..=to`.
    pub(crate) fn next_gap(&self, from: u128, to: u128) -> Option<u128> {
        let candidate = match self.span_at(from) {
            Some((_, end)) => end.checked_add(1)?,
            None => from,
        };
        // Intervals never touch, so what follows one is free.
        (candidate <= to).then_some(candidate)
    }

    /// How many members lie in `first..=last`. O(intervals).
    pub(crate) fn count_within(&self, first: u128, last: u128) -> u128 {
        self.spans
            .iter()
            .filter_map(|(&start, &end)| {
                let (low, high) = (start.max(first), end.min(last));
                (low <= high).then(|| high - low + 1)
            })
            .sum()
    }

    fn span_at(&self, value: u128) -> Option<(u128, u128)> {
        self.spans.range(..=value).next_back().map(|(&s, &e)| (s, e)).filter(|&(_, end)| end >= value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_edges_of_the_integers_do_not_overflow() {
        let mut set = RangeSet::default();
        set.insert(u128::MAX - 1, u128::MAX);
        set.insert(0, 0);
        assert_eq!(set.next_gap(u128::MAX - 1, u128::MAX), None);
        assert_eq!(set.next_gap(0, 10), Some(1));
        assert!(set.remove(u128::MAX));
        assert_eq!(set.next_gap(u128::MAX - 1, u128::MAX), Some(u128::MAX));
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(ops in prop::collection::vec((any::<bool>(), 0u128..64, 0u128..6), 1..200)) {
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for (add, at, len) in ops {
                if add {
                    set.insert(at, at + len);
                    model.extend(at..=at + len);
                } else {
                    prop_assert_eq!(set.remove(at), model.remove(&at));
                }
                for v in 0..72 {
                    prop_assert_eq!(set.contains(v), model.contains(&v));
                    prop_assert_eq!(set.next_gap(v, 71), (v..=71).find(|x| !model.contains(x)));
                }
                prop_assert_eq!(set.count_within(5, 40), model.range(5..=40).count() as u128);
                let spans: Vec<_> = set.spans.iter().collect();
                prop_assert!(spans.windows(2).all(|w| *w[0].1 + 1 < *w[1].0), "intervals touch: {:?}", spans);
            }
        }
    }
}
