//! A routing table as consecutive ranges of addresses, made for lookups only.

use super::Route;

/// An address as a number.
pub(super) trait Number: Copy + Ord {
    const MIN: Self;
    /// The last address of a prefix that begins here.
    fn last(self, length: u8) -> Self;
    fn next(self) -> Option<Self>;
}

macro_rules! number {
    ($kind:ty) => {
        impl Number for $kind {
            const MIN: Self = Self::MIN;

            fn last(self, length: u8) -> Self {
                self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
            }

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    };
}

number!(u32);
number!(u128);

/// Where each range begins, in order, the first at 0; and the route of each.
#[derive(Clone, Debug)]
pub(super) struct Ranges<T> {
    starts: Vec<T>,
    routes: Vec<Option<Route>>,
}

impl<T: Number> Ranges<T> {
    /// Takes prefixes in the order of their addresses; of two that begin at the same address, the shorter first.
    pub(super) fn new(prefixes: impl Iterator<Item = (T, u8, Route)>) -> Self {
        let mut ranges = Self { starts: vec![T::MIN], routes: vec![None] };
        // The prefixes around the present one, the longest last: the end of each, and its route.
        let mut around: Vec<(T, Route)> = Vec::new();
        for (address, length, route) in prefixes {
            ranges.leave(&mut around, |last| last < address);
            ranges.begin(address, Some(route));
            around.push((address.last(length), route));
        }
        ranges.leave(&mut around, |_| true);
        ranges
    }

    /// Leaves the prefixes that have ended; behind each of them the one around it goes on.
    fn leave(&mut self, around: &mut Vec<(T, Route)>, is_over: impl Fn(T) -> bool) {
        while let Some((last, _)) = around.pop_if(|(last, _)| is_over(*last)) {
            if let Some(next) = last.next() {
                self.begin(next, around.last().map(|(_, route)| *route));
            }
        }
    }

    fn begin(&mut self, start: T, route: Option<Route>) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.routes.pop();
        }
        if self.routes.last() != Some(&route) {
            self.starts.push(start);
            self.routes.push(route);
        }
    }

    /// The route of an address.
    #[inline]
    pub(super) fn route(&self, address: T) -> Option<Route> {
        let at = self.starts.partition_point(|start| *start <= address);
        self.routes.get(at.wrapping_sub(1)).copied().flatten()
    }
}
