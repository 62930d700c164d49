//! As in `everything`, and all of it at once: each worker and the control core on a thread of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use director_engine::{BURST, Reason, Tick, Verdict, Worker};

use crate::everything::{Sent, Step, change, lab, nothing_is_left, obey, serve};
use crate::lab::{Burst, Lab};

/// How often the steps of a worker are repeated, and its bursts at most.
const ROUNDS: usize = 60;

fn work(worker: &mut Worker, sent: &[Sent], milliseconds: &AtomicU64) {
    for round in 0..ROUNDS {
        for Sent { port, frames, .. } in sent {
            worker.quiescent();
            let now = milliseconds.load(Ordering::Relaxed);
            let mut verdicts = [Verdict::Drop(Reason::HandoffFull); BURST];
            let mut burst = Burst { frames: frames.clone(), head: usize::MAX };
            worker.process(Tick::from_millis(now), now as u32, *port, &mut burst, &mut verdicts);
            let verdicts = &verdicts[..frames.len()];
            assert!(!verdicts.contains(&Verdict::Drop(Reason::HandoffFull)), "no verdict");
            obey(worker, now, *port, verdicts, &burst.frames);
        }
        if round % 10 == 9 {
            worker.offline();
        }
    }
    worker.offline();
}

/// The steps of an operator, and time, until the workers are done.
fn operate(lab: &mut Lab, steps: &[Step], milliseconds: &AtomicU64, is_running: &AtomicBool) {
    let mut left = steps.iter();
    while is_running.load(Ordering::Relaxed) {
        match left.next() {
            Some(Step::PassLong { seconds }) => lab.milliseconds += u64::from(*seconds) * 1000,
            Some(Step::Pass { tenths }) => lab.milliseconds += u64::from(*tenths) * 100,
            Some(step) => change(&mut lab.control, &lab.network, step),
            None => {
                lab.milliseconds += 1000;
                left = steps.iter();
                serve(lab);
            }
        }
        milliseconds.store(lab.milliseconds, Ordering::Relaxed);
        lab.control.poll(lab.now(), 1000);
        lab.control.expire_fragments(lab.now(), lab.milliseconds as u32, |_, _| ());
        lab.each_entry(|connection| assert_ne!(connection.service, connection.server));
        std::thread::yield_now();
    }
}

#[test]
fn nothing_is_left_of_what_happens_at_once() {
    let steps = || bolero::produce::<Vec<Step>>().with().len(50..150_usize);
    let all = (steps(), steps(), steps());
    bolero::check!().with_generator(all).with_iterations(40).with_max_len(16_384).for_each(
        |(first, second, operator)| {
            let mut lab = lab();
            let mut workers = std::mem::take(&mut lab.workers);
            let (milliseconds, is_running) = (AtomicU64::new(lab.milliseconds), AtomicBool::new(true));
            let sent = [first, second].map(|steps| steps.iter().filter_map(Sent::of).collect::<Vec<_>>());
            std::thread::scope(|scope| {
                let threads: Vec<_> = workers
                    .iter_mut()
                    .zip(&sent)
                    .map(|(worker, sent)| {
                        let milliseconds = &milliseconds;
                        scope.spawn(move || work(worker, sent, milliseconds))
                    })
                    .collect();
                let (lab, operator) = (&mut lab, operator.as_slice());
                let control = scope.spawn(|| operate(lab, operator, &milliseconds, &is_running));
                let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
                is_running.store(false, Ordering::Relaxed);
                control.join().unwrap();
                results.into_iter().for_each(|result| result.unwrap());
            });
            lab.workers = workers;
            nothing_is_left(&mut lab);
        },
    );
}
