//! The CPUs a benchmark runs on, and whether it had them for itself.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// What other processes may use of one CPU: an interrupt now and then is nobody's fault.
const OTHERS: f64 = 0.05;
/// What the hypervisor may take of one CPU.
const STOLEN: f64 = 0.02;
/// How much of the time that is its own the forwarding thread must have run.
pub const FORWARDING: f64 = 0.98;

/// The two CPUs that all programs of a benchmark run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cpus {
    /// The control core's, and everything's that is not measured.
    pub control: u32,
    /// The worker's: where frames are forwarded.
    pub worker: u32,
}

impl Cpus {
    /// Two of the CPUs this process may use, on two cores where there are two.
    ///
    /// # Errors
    /// There is only one.
    pub fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("which CPUs may be used")?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).map(|cpu| cpu as u32);
        let control = cpus.next().context("no CPU may be used")?;
        let others: Vec<u32> = cpus.collect();
        let siblings = siblings(control);
        let worker = others.iter().find(|cpu| !siblings.contains(cpu)).or(others.first());
        match worker {
            Some(&worker) => Ok(Self { control, worker }),
            None => bail!("two CPUs are needed, one to forward and one for all else; there is one"),
        }
    }

    /// Reads two different CPUs, `CONTROL,WORKER`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (control, worker) = text.split_once(',').ok_or("two CPUs, for example 0,1")?;
        let cpu = |text: &str| text.parse::<u32>().map_err(|error| format!("{text}: {error}"));
        let cpus = Self { control: cpu(control)?, worker: cpu(worker)? };
        if cpus.control == cpus.worker { Err("two different CPUs".to_owned()) } else { Ok(cpus) }
    }

    /// Keeps this process, and what it starts from now on, on these CPUs.
    ///
    /// # Errors
    /// The kernel does not allow it.
    pub fn confine(self) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(self.control as usize);
        set.set(self.worker as usize);
        sched_setaffinity(None, &set)
            .with_context(|| format!("CPUs {} and {} cannot be used", self.control, self.worker))
    }
}

/// The CPUs that share a core with one.
fn siblings(cpu: u32) -> Vec<u32> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    cpu_list(&fs::read_to_string(path).unwrap_or_default())
}

/// Reads the kernel's lists, such as `0,2-3`.
fn cpu_list(text: &str) -> Vec<u32> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        Some(from.parse::<u32>().ok()?..=to.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// What every process had done at one moment.
#[derive(Clone, Debug)]
pub struct Moment {
    at: Instant,
    /// Time the CPUs were used, and time the hypervisor took: of both, and of the worker's.
    busy: Duration,
    stolen: Duration,
    stolen_of_worker: Duration,
    /// What each process used, with its name.
    processes: BTreeMap<u32, (String, Duration)>,
    /// What each thread of ours ran.
    ours: BTreeMap<(u32, u32), Duration>,
    /// What this process used, with those of its threads that have ended.
    own: Duration,
}

impl Moment {
    /// Looks at the CPUs and the processes; those of `ours`, and this one, belong to the benchmark.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn now(cpus: Cpus, ours: &[u32]) -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let (mut busy, mut stolen, mut stolen_of_worker) = Default::default();
        for cpu in [cpus.control, cpus.worker] {
            let (used, taken) =
                cpu_time(&text, cpu).with_context(|| format!("/proc/stat has no cpu{cpu}"))?;
            busy += used;
            stolen += taken;
            // The worker's is the last.
            stolen_of_worker = taken;
        }
        let mut threads = BTreeMap::new();
        for &process in ours.iter().chain([&std::process::id()]) {
            for thread in numbered(&format!("/proc/{process}/task")) {
                let schedstat = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat"));
                if let Some(ran) = schedstat.ok().and_then(|text| text.split(' ').next()?.parse().ok()) {
                    threads.insert((process, thread), Duration::from_nanos(ran));
                }
            }
        }
        let others = numbered("/proc").filter(|process| !threads.keys().any(|(ours, _)| ours == process));
        let processes = others.filter_map(|process| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            Some((process, process_time(&stat)?))
        });
        let processes = processes.collect();
        let own = clock_gettime(ClockId::ProcessCPUTime);
        let own = Duration::new(own.tv_sec.unsigned_abs(), own.tv_nsec as u32);
        Ok(Self { at: Instant::now(), busy, stolen, stolen_of_worker, processes, ours: threads, own })
    }

    /// What happened from `self` to `end`.
    #[must_use]
    pub fn until(&self, end: &Self) -> Window {
        let seconds = end.at.duration_since(self.at).as_secs_f64();
        let ran = end.ours.iter().map(|(thread, time)| {
            let before = self.ours.get(thread).copied().unwrap_or_default();
            (thread.0, time.saturating_sub(before).as_secs_f64())
        });
        // The thread that forwards is the programs' that were named, where any were.
        let this = std::process::id();
        let named = end.ours.keys().any(|(process, _)| *process != this);
        let (mut all_ours, mut busiest) = (0.0, 0.0_f64);
        for (process, ran) in ran {
            all_ours += ran;
            if !named || process != this {
                busiest = busiest.max(ran);
            }
        }
        // A thread that came and went in between is in neither list.
        let listed = |moment: &Self| -> Duration {
            moment.ours.iter().filter(|((process, _), _)| *process == this).map(|(_, time)| *time).sum()
        };
        let ended = end.own.saturating_sub(self.own).saturating_sub(listed(end).saturating_sub(listed(self)));
        all_ours += ended.as_secs_f64();
        let busy = end.busy.saturating_sub(self.busy).as_secs_f64();
        let mut culprits: Vec<(String, f64)> = end
            .processes
            .iter()
            .map(|(process, (name, time))| {
                let before = self.processes.get(process).map_or(Duration::ZERO, |(_, time)| *time);
                (format!("{name} ({process})"), time.saturating_sub(before).as_secs_f64() / seconds)
            })
            .filter(|(_, share)| *share >= 0.01)
            .collect();
        culprits.sort_by(|a, b| b.1.total_cmp(&a.1));
        culprits.truncate(3);
        let share = |end: Duration, start: Duration| end.saturating_sub(start).as_secs_f64() / seconds;
        Window {
            seconds,
            others: (busy - all_ours).max(0.0) / seconds,
            stolen: share(end.stolen, self.stolen),
            stolen_of_worker: share(end.stolen_of_worker, self.stolen_of_worker),
            forwarding: busiest / seconds,
            culprits,
        }
    }
}

/// Who had the CPUs during a measurement; in CPUs, so that 1.0 is all of one.
#[derive(Clone, Debug)]
pub struct Window {
    /// How long it was.
    pub seconds: f64,
    /// What processes used that are not the benchmark's.
    pub others: f64,
    /// What the hypervisor took.
    pub stolen: f64,
    /// What it took of the worker's CPU.
    pub stolen_of_worker: f64,
    /// What the busiest thread had: of the programs that the benchmark runs, or of itself where it runs none.
    pub forwarding: f64,
    /// Who used most, anywhere on the machine.
    pub culprits: Vec<(String, f64)>,
}

impl Window {
    /// Why what was measured meanwhile cannot be trusted, if the forwarding thread must have run for so much of the
    /// time; none if it can.
    #[must_use]
    pub fn disturbance(&self, forwarding: f64) -> Option<String> {
        let mut reasons = Vec::new();
        if self.others > OTHERS {
            let mut reason = format!("other processes used {} of a CPU", percent(self.others));
            if !self.culprits.is_empty() {
                let names: Vec<_> =
                    self.culprits.iter().map(|(name, share)| format!("{name} {}", percent(*share))).collect();
                reason += &format!(", foremost {}", names.join(", "));
            }
            reasons.push(reason);
        }
        if self.stolen > STOLEN {
            reasons.push(format!("the hypervisor took {} of a CPU", percent(self.stolen)));
        }
        if self.forwarding < forwarding {
            reasons.push(format!("the forwarding thread ran for {} of the time", percent(self.forwarding)));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Why the worker cannot be trusted, whoever used the other CPU; none if it can.
    #[must_use]
    pub fn disturbance_of_worker(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if self.stolen_of_worker > STOLEN {
            reasons
                .push(format!("the hypervisor took {} of the worker's CPU", percent(self.stolen_of_worker)));
        }
        if self.forwarding < FORWARDING {
            reasons.push(format!("the worker ran for {} of the time", percent(self.forwarding)));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Time a CPU was used and time the hypervisor took from it, of a line of /proc/stat (proc(5)): user,
/// nice, system, idle, iowait, irq, softirq, steal, in ticks.
fn cpu_time(text: &str, cpu: u32) -> Option<(Duration, Duration)> {
    let name = format!("cpu{cpu}");
    let line = text.lines().find(|line| line.split(' ').next() == Some(&name))?;
    let times: Vec<u64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[user, nice, system, _, _, irq, softirq, steal, ..] = times.as_slice() else { return None };
    Some((ticks(user + nice + system + irq + softirq), ticks(steal)))
}

/// A process's name and the time it used, of its /proc/PID/stat. The name, in parentheses, may hold
/// anything, parentheses too.
fn process_time(stat: &str) -> Option<(String, Duration)> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    // The fields after the name begin with the third; the times are the 14th and the 15th.
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((name.to_owned(), ticks(user + system)))
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The entries of a directory that are numbers.
fn numbered(directory: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpu_list("0\n"), [0]);
        assert_eq!(cpu_list("0,4-6\n"), [0, 4, 5, 6]);
        assert!(cpu_list("").is_empty());
    }

    #[test]
    fn a_line_of_proc_stat() {
        let text = "cpu  1 2 3 4 5 6 7 8 0 0\ncpu1 100 10 30 999 999 7 3 50 0 0\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
        let second = |seconds: f64| Duration::from_secs_f64(seconds);
        let hertz = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_time(text, 1), Some((second(150.0 / hertz), second(50.0 / hertz))));
        assert_eq!(cpu_time(text, 2), None);
    }

    #[test]
    fn a_name_with_parentheses() {
        let stat = "42 (a) b) S 1 1 1 0 -1 4194560 1 2 3 4 30 12 0 0 20 0 1 0 5 0 0";
        let (name, time) = process_time(stat).unwrap();
        assert_eq!(name, "a) b");
        assert_eq!(time, ticks(42));
    }

    fn moment(at: Instant, busy: u64, ours: u64, other: u64) -> Moment {
        Moment {
            at,
            busy: Duration::from_millis(busy),
            stolen: Duration::ZERO,
            stolen_of_worker: Duration::ZERO,
            processes: BTreeMap::from([(7, ("cc".to_owned(), Duration::from_millis(other)))]),
            ours: BTreeMap::from([((1, 1), Duration::from_millis(ours))]),
            own: Duration::ZERO,
        }
    }

    #[test]
    fn a_quiet_window_and_a_disturbed_one() {
        let start = Instant::now();
        let end = start + Duration::from_secs(2);
        let quiet = moment(start, 0, 0, 0).until(&moment(end, 2010, 1990, 10));
        assert_eq!(quiet.disturbance(FORWARDING), None);
        let shared = moment(start, 0, 0, 0).until(&moment(end, 3000, 2000, 1000));
        assert_eq!(
            shared.disturbance(FORWARDING).unwrap(),
            "other processes used 50 % of a CPU, foremost cc (7) 50 %"
        );
        let slow = moment(start, 0, 0, 0).until(&moment(end, 1000, 1000, 0));
        assert_eq!(slow.disturbance(FORWARDING).unwrap(), "the forwarding thread ran for 50 % of the time");
        assert_eq!(slow.disturbance_of_worker().unwrap(), "the worker ran for 50 % of the time");
        assert_eq!(shared.disturbance_of_worker(), None);
    }

    #[test]
    fn what_the_hypervisor_takes_of_the_other_cpu_is_not_the_workers() {
        let start = Instant::now();
        let mut end = moment(start + Duration::from_secs(2), 2000, 2000, 0);
        end.stolen = Duration::from_millis(100);
        let window = moment(start, 0, 0, 0).until(&end);
        assert_eq!(window.disturbance(FORWARDING).unwrap(), "the hypervisor took 5 % of a CPU");
        assert_eq!(window.disturbance_of_worker(), None);
        end.stolen_of_worker = end.stolen;
        let window = moment(start, 0, 0, 0).until(&end);
        assert_eq!(window.disturbance_of_worker().unwrap(), "the hypervisor took 5 % of the worker's CPU");
    }

    #[test]
    fn a_thread_that_has_ended_is_ours() {
        let start = Instant::now();
        let (before, mut after) =
            (moment(start, 0, 0, 0), moment(start + Duration::from_secs(2), 3990, 1990, 0));
        assert!(before.until(&after).disturbance(FORWARDING).is_some());
        after.own = Duration::from_millis(2000);
        assert_eq!(before.until(&after).disturbance(FORWARDING), None);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let cpus = Cpus { control: 0, worker: 0 };
        let moment = Moment::now(cpus, &[]).unwrap();
        assert!(moment.busy > Duration::ZERO);
        assert!(moment.ours.keys().any(|(process, _)| *process == std::process::id()));
        assert!(!moment.processes.contains_key(&std::process::id()));
    }
}
