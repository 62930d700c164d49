//! Changes of services that their clients need not wait for: they are gathered and published together.

use std::time::{Duration, Instant};

use director_engine::Control;

/// How long changes are gathered; longer if publishing them takes longer than this.
const LEAST: Duration = Duration::from_millis(1);

/// Since when changes have waited, and how long it took to publish those before them.
#[derive(Default)]
pub(crate) struct Gathering {
    since: Option<Instant>,
    took: Duration,
}

impl Gathering {
    /// Publishes the changes if it is time to. To be called in each turn.
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
        control.note_deletion();
        assert!(!is_settled(&mut control, Duration::from_secs(1)));
        control.note_change();
        assert!(!is_settled(&mut control, Duration::from_secs(1) + LEAST / 2));
        assert!(is_settled(&mut control, Duration::from_secs(1) + LEAST));
        // What somebody else has published does not count for the next time.
        control.note_change();
        assert!(!is_settled(&mut control, Duration::from_secs(2)));
        control.settle();
        assert!(is_settled(&mut control, Duration::from_secs(3)));
        control.note_change();
        assert!(!is_settled(&mut control, Duration::from_secs(4)));
    }
}
