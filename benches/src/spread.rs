//! What several measurements of one thing came to.

use serde::Serialize;

/// The middle and the ends of a few measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of `values`; none where there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, min, max })
    }

    /// The spread of `over / under`, pair by pair: what is common to both measurements of a pair, such as
    /// the temperature of the machine, falls out.
    #[must_use]
    pub fn of_ratios(over: &[f64], under: &[f64]) -> Option<Self> {
        Self::of(over.iter().zip(under).map(|(over, under)| over / under))
    }

    /// Each of the three, changed alike.
    #[must_use]
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self { median: change(self.median), min: change(self.min), max: change(self.max) }
    }

    /// Rounded to so many decimal places.
    #[must_use]
    pub fn rounded(self, places: i32) -> Self {
        let scale = 10_f64.powi(places);
        self.map(|value| (value * scale).round() / scale)
    }

    /// As a column of a table: `median (min to max)`.
    #[must_use]
    pub fn text(self, places: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.places$} ({min:.places$} to {max:.places$})")
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_middle_and_the_ends() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0]), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
        assert_eq!(Spread::of([9.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
    }

    #[test]
    fn ratios_are_those_of_the_pairs() {
        // The medians' ratio would be 1; the pairs say otherwise.
        let spread = Spread::of_ratios(&[1.0, 2.0, 3.0], &[2.0, 1.0, 2.0]);
        assert_eq!(spread, Some(Spread { median: 1.5, min: 0.5, max: 2.0 }));
    }
}
