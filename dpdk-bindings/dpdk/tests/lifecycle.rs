//! EAL from its start to its stop, and the jobs of its lcores.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dpdk::{Burst, Eal, LaunchError, StartError, clock, log};
use support::{arguments, attach, pool, start};

#[test]
fn eal_starts_once_runs_jobs_and_stops_when_all_is_back() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    log::set_sink(move |record| sink.lock().unwrap().push((record.level, record.message.to_owned())));

    let mut with_device = arguments("lifecycle", 2);
    with_device.push("--vdev=net_null0,size=64".to_owned());
    let eal = Eal::start(with_device).unwrap();
    assert!(!lines.lock().unwrap().is_empty(), "EAL logs as it starts");
    assert!(matches!(Eal::start(arguments("lifecycle", 1)), Err(StartError::AlreadyStarted)));

    // Lcores.
    let main = eal.main_lcore();
    let workers = eal.worker_lcores();
    assert_eq!((main.id(), workers.len()), (0, 2));
    assert_eq!(main.to_string(), "lcore 0");
    let started = clock::now();
    thread::sleep(Duration::from_millis(20));
    let ticks = clock::now() - started;
    assert!(eal.tsc_hz() > 1_000_000 && ticks * 50 > eal.tsc_hz() / 2, "{ticks} of {}", eal.tsc_hz());

    // Jobs: a result comes back, again and again.
    let here = thread::current().id();
    for round in 0..200_u64 {
        let job = eal.launch(workers[0], move || (round * 2, thread::current().id())).unwrap();
        let (result, there) = job.join().unwrap();
        assert_eq!(result, round * 2);
        assert_ne!(there, here);
    }

    // A busy lcore takes no second job; the main one takes none.
    let (release, wait) = mpsc::channel::<()>();
    let job = eal.launch(workers[0], move || wait.recv().is_err()).unwrap();
    assert_eq!(eal.launch(workers[0], || ()).unwrap_err(), LaunchError::Busy { lcore: workers[0] });
    assert_eq!(eal.launch(main, || ()).unwrap_err(), LaunchError::Main { lcore: main });
    assert!(!job.is_finished());
    let other = eal.launch(workers[1], || 5).unwrap();
    assert_eq!(other.join().unwrap(), 5);
    drop(release);
    assert!(job.join().unwrap());

    // A panic stays in its job, and drops what the job had.
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Flag(Arc::clone(&dropped));
    let job = eal
        .launch(workers[0], move || {
            let _flag = &flag;
            panic!("lost at {}", 7);
        })
        .unwrap();
    let error = job.join().map(|()| unreachable!()).unwrap_err();
    assert_eq!(error.to_string(), "the job of lcore 1 panicked: lost at 7");
    assert!(dropped.load(Ordering::Acquire));
    // The lcore is as good as before.
    assert_eq!(eal.launch(workers[0], || 1).unwrap().join().unwrap(), 1);

    // The device that EAL made is taken over by its name. Everything goes, on several threads, and EAL stops.
    let packets = pool(&eal, "packets");
    let (port, mut rx, tx) = start(attach(&eal, "net_null0"), &packets);
    let handle = eal.handle();
    let job = eal.launch(workers[0], move || drop(tx)).unwrap();
    thread::spawn(move || {
        // No lcore: it has no cache in the pool, and works all the same.
        let mut burst = Burst::new();
        assert_eq!(rx.receive(&mut burst), Burst::CAPACITY);
        assert!(burst.iter().all(|packet| packet.len() == 64));
        drop((rx, burst, handle));
    })
    .join()
    .unwrap();
    job.join().unwrap();
    drop((port, packets));
    eal.stop().unwrap();
    assert!(matches!(Eal::start(arguments("lifecycle", 1)), Err(StartError::AlreadyStarted)));
}
