//! Changes of services whose clients do not wait until they are in force: gathered while more of them come.

use std::time::{Duration, Instant};

use director_engine::Control;

/// How long they are gathered, unless it takes longer to make them known: then as long as that.
const LEAST: Duration = Duration::from_millis(1);

/// Since when there are some, and how long it took to make those before them known.
#[derive(Default)]
pub(crate) struct Gathering {
    since: Option<Instant>,
    took: Duration,
}

impl Gathering {
    /// Brings changes into force if it is time to. To be called with each turn.
    pub(crate) fn turn(&mut self, control: &mut Control, now: Instant) {
        if !control.is_changed() {
            self.since = None;
        } else if now.duration_since(*self.since.get_or_insert(now)) >= LEAST.max(self.took) {
            control.settle();
            (self.since, self.took) = (None, now.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use director_engine::Options;

    use super::*;

    #[test]
    fn changes_wait_but_not_for_long() {
        let (mut control, _workers) = Control::with_templates(&Options::new(16, 1), 16).unwrap();
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        let mut is_settled = |control: &mut Control, later: Duration| {
            gathering.turn(control, now + later);
            !control.is_changed()
        };
        assert!(is_settled(&mut control, Duration::ZERO));
        control.change(true);
        assert!(!is_settled(&mut control, Duration::from_secs(1)));
        control.change(false);
        assert!(!is_settled(&mut control, Duration::from_secs(1) + LEAST / 2));
        assert!(is_settled(&mut control, Duration::from_secs(1) + LEAST));
        // One that somebody else has settled does not count for the next.
        control.change(false);
        assert!(!is_settled(&mut control, Duration::from_secs(2)));
        control.settle();
        assert!(is_settled(&mut control, Duration::from_secs(3)));
        control.change(false);
        assert!(!is_settled(&mut control, Duration::from_secs(4)));
    }
}
