//! The director: it wires the engine to ports, threads, kernel twins and sockets.
//!
//! `main` reads the file and brings everything up; from then on each worker runs [`worker::Loop`] on its lcore, and the
//! control core the tasks of [`director::Director`]: frames of the twins (`pump`), the kernel's network (`mirror`,
//! `network`), the sockets (`sockets`, `ipvs`), and the file when it is read again (`reload`, `plan`).

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, bail};
use clap::Parser;
use director_config::{Config, Device, Idle};
use dpdk::{Eal, LcoreJob, Pool, PoolConfig};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::clock::{Coarse, Watch};
use crate::counters::ThreadCounters;
use crate::director::{Director, WorkerInfo};
use crate::guard::Guard;
use crate::log::Log;
use crate::paths::Paths;
use crate::ports::{Dealt, PortRuntime, Queues};
use crate::pump::Pump;
use crate::sockets::Sockets;

mod addresses;
mod beside;
mod clock;
mod counters;
mod director;
mod follow;
mod gathering;
mod guard;
mod ipvs;
mod local_ports;
mod log;
mod mirror;
mod nap;
mod network;
mod next_hops;
mod paths;
mod peers;
mod plan;
mod ports;
mod procfs;
mod pump;
mod reload;
mod rss;
mod setup;
mod sockets;
mod status;
mod supervisor;
mod sysctls;
mod worker;

/// A layer-4 load balancer: what LVS-NAT does in the kernel, on DPDK.
///
/// Stays in the foreground and logs to standard error. SIGHUP has it read the file again, SIGTERM ends it.
#[derive(Parser)]
#[command(name = "director", version = VERSION.as_str(), after_help = NOTES)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only say whether the configuration file is right: without a word if it is.
    #[arg(long)]
    check: bool,
}

/// The director's, and that of the DPDK that is linked.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} ({})", env!("CARGO_PKG_VERSION"), dpdk::version()));

const NOTES: &str = "\
Environment: DIRECTOR_LOG chooses what is logged (error, warn, info, debug, trace).
Exit status: 0 ended by a signal, or the file is right; 1 the file is wrong, or an error; 2 the command line is wrong.
directorctl asks and drives a running director.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A SIGHUP ends a process that is not ready for it: from now on it waits until the director can read its file again.
    let (runtime, hangup) = match runtime() {
        Ok(begun) => begun,
        Err(error) => {
            log::tell(&format!("director: cannot start the control core's runtime: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(errors) => {
            log::tell(&errors.report());
            return ExitCode::FAILURE;
        }
    };
    if !config.warnings().is_empty() {
        log::tell(&config.warnings().report());
    }
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    let log = match Log::start() {
        Ok(log) => log,
        Err(error) => {
            log::tell(&format!("director: cannot start the log's thread: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    let ended = run(&config, &runtime, hangup);
    drop(log);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::tell(&format!("director: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// What the control core's tasks run on, and the signal to read the file again.
fn runtime() -> io::Result<(Runtime, Signal)> {
    // The task that moves the twins' frames is always ready, so sockets are looked at after each turn of it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build()?;
    let entered = runtime.enter();
    let hangup = signal(SignalKind::hangup())?;
    drop(entered);
    Ok((runtime, hangup))
}

/// Runs the director until it is told to stop.
fn run(config: &Config, runtime: &Runtime, hangup: Signal) -> Result<()> {
    // What may be refused without touching a device comes first.
    let mut sockets = runtime.block_on(Sockets::listen(config.control.directory.as_path()))?;
    ports::check_twins(config)?;
    let guard = guard(config)?;
    dpdk::log::set_sink(log::take_dpdks);
    let eal = Eal::start(eal_arguments(config)).context("DPDK does not start")?;
    let result = forward(config, &eal, runtime, &mut sockets, hangup);
    drop(guard);
    let stopped = match eal.stop() {
        Err(left) if keeps_buffers(config) => {
            tracing::warn!("{left}; the driver of a zero-copy net_memif does not give its rings' back");
            Ok(())
        }
        stopped => stopped.context("DPDK does not stop"),
    };
    result.and(stopped)
}

/// Whether a driver is known to keep packet buffers when its port is closed: that of net_memif those of its rings,
/// where it makes no copies.
fn keeps_buffers(config: &Config) -> bool {
    let devices = config.ports.iter().map(|port| &port.device);
    devices.filter(|device| device.driver() == Some("net_memif")).any(|device| {
        // As the driver reads it.
        device.argument("zero-copy").is_some_and(|value| value.contains("yes"))
    })
}

/// Keeps the kernel from hearing the interfaces whose frames the director takes from a socket.
fn guard(config: &Config) -> Result<Option<Guard>> {
    let interfaces: Vec<_> = config.ports.iter().filter_map(|port| port.device.opened_interface()).collect();
    if interfaces.is_empty() {
        return Ok(None);
    }
    let name = format!("director-{}", std::process::id());
    let guard = Guard::new(&name, &interfaces).with_context(|| {
        format!(
            "cannot keep the kernel from hearing {} (nftables, table netdev {name})",
            interfaces.join(", ")
        )
    })?;
    Ok(Some(guard))
}

/// What EAL is started with: the lcores, the configuration's own arguments, its devices, and a file prefix of
/// this instance, so that several directors live on one machine.
fn eal_arguments(config: &Config) -> Vec<String> {
    let mut arguments = Vec::from(config.dpdk.lcores.eal_arguments());
    arguments.push("--no-telemetry".into());
    if !config.dpdk.eal.iter().any(|argument| argument.starts_with("--file-prefix")) {
        let directory = config.control.directory.as_path().to_string_lossy().replace('/', "-");
        arguments.push(format!("--file-prefix=director{directory}"));
    }
    arguments.extend(allowed_devices(config));
    arguments.extend(config.dpdk.eal.iter().cloned());
    arguments
}

/// The file's PCI devices, or that there are none: EAL would otherwise take all others, too, that a driver of DPDK's
/// fits: those of other programs, and the kernel's. Nothing where the file chooses by arguments of EAL's, or where a device
/// is made of others that only its own arguments name.
fn allowed_devices(config: &Config) -> Vec<String> {
    const CHOICES: [&str; 5] = ["-a", "-b", "--allow", "--block", "--no-pci"];
    const MADE_OF_OTHERS: [&str; 3] = ["net_bonding", "net_failsafe", "net_vdev_netvsc"];
    let is_chosen = |argument: &String| {
        CHOICES.iter().any(|choice| argument.starts_with(choice))
            || MADE_OF_OTHERS.iter().any(|driver| argument.contains(driver))
    };
    let devices = || config.ports.iter().map(|port| &port.device);
    if config.dpdk.eal.iter().any(is_chosen)
        || devices().filter_map(Device::driver).any(|driver| MADE_OF_OTHERS.contains(&driver))
    {
        return Vec::new();
    }
    let pci = devices().filter(|device| device.driver().is_none());
    let allowed: Vec<_> = pci.map(|device| format!("--allow={device}")).collect();
    if allowed.is_empty() { vec!["--no-pci".into()] } else { allowed }
}

/// Whether workers sleep when there is nothing to do: they poll where a device is meant for speed.
fn sleeps(config: &Config) -> bool {
    let is_slow = |driver: Option<&str>| matches!(driver, Some("net_af_packet" | "net_tap"));
    match config.dpdk.idle {
        Idle::Poll => false,
        Idle::Sleep => true,
        Idle::Auto => config.ports.iter().all(|port| is_slow(port.device.driver())),
    }
}

/// Brings everything up, runs, and takes it down again.
fn forward(
    config: &Config,
    eal: &Eal,
    runtime: &Runtime,
    sockets: &mut Sockets,
    hangup: Signal,
) -> Result<()> {
    let lcores = eal.worker_lcores();
    if lcores.is_empty() {
        bail!("there is no lcore for a worker");
    }
    let pool_config = PoolConfig { mbufs: config.dpdk.mbufs.get(), ..PoolConfig::default() };
    let pool = Pool::new(eal, "frames", &pool_config).with_context(|| {
        format!("no memory for {} packet buffers ([dpdk] mbufs)", config.dpdk.mbufs.get())
    })?;
    // The number of lcores is far below 2^16.
    let (ports, queues): (Vec<PortRuntime>, Vec<Queues>) =
        ports::bring_up(eal, config, &pool, lcores.len() as u16)?.into_iter().unzip();
    let names: Vec<_> = config.ports.iter().map(|port| port.name.as_str().to_owned()).collect();
    let Dealt { workers: shares, control: control_tx, senders } = ports::deal(queues, &names, lcores.len());
    local_ports::check(config)?;
    let (control, workers) = setup::control(config, lcores.len())?;
    let clock = Coarse::new(eal.tsc_hz());
    let twins = ports.iter().map(|port| port.configuration.twin);
    let paths = Arc::new(Paths::new(twins.zip(senders), lcores.len()));
    let port_numbers = port_numbers(&ports);
    let counters: Vec<_> = (0..=lcores.len()).map(|_| Arc::new(ThreadCounters::new(ports.len()))).collect();
    let stop = Arc::new(AtomicBool::new(false));

    let mut loops = Vec::new();
    let mut infos = Vec::new();
    for (((lcore, share), worker), counters) in lcores.iter().zip(shares).zip(workers).zip(&counters) {
        infos.push(WorkerInfo { lcore: lcore.id(), queues: share.names });
        let work = worker::Loop {
            worker,
            inputs: share.inputs,
            outputs: share.outputs,
            counters: counters.clone(),
            paths: paths.clone(),
            pool: pool.clone(),
            port_numbers: port_numbers.clone(),
            clock: Watch::new(clock),
            sleeps: sleeps(config),
            stop: stop.clone(),
        };
        loops.push((*lcore, work));
    }
    let mut ports = ports;
    let pump_ports =
        ports.iter_mut().zip(control_tx).map(|(port, tx)| (port.twin.take(), tx, port.mac.get()));
    let own = counters[lcores.len()].clone();
    let pump = Pump::new(pump_ports.collect(), paths, own, port_numbers, pool.clone());
    let director = Rc::new(Director::new(config.clone(), clock, ports, infos, counters, control, pump)?);

    let local = tokio::task::LocalSet::new();
    let result = local.block_on(runtime, async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::task::spawn_local(connection);
        prepare(&director, &handle).await?;
        let (jobs, launched) = launch(eal, loops);
        let mut outcome = match launched {
            Ok(()) => serve(&director, &handle, sockets, hangup).await,
            Err(error) => Err(error),
        };
        stop.store(true, Ordering::Relaxed);
        supervisor::tell("STOPPING=1");
        // All of them have to end before EAL does.
        for job in jobs {
            let lcore = job.lcore();
            let joined = job.join().with_context(|| format!("the worker on lcore {lcore}"));
            outcome = outcome.and(joined);
        }
        outcome
    });
    drop(local);
    result
}

/// Starts the workers. Those that run, and why not all do.
fn launch(eal: &Eal, loops: Vec<(dpdk::Lcore, worker::Loop)>) -> (Vec<LcoreJob<()>>, Result<()>) {
    let mut jobs = Vec::new();
    for (lcore, work) in loops {
        match eal.launch(lcore, move || work.run()) {
            Ok(job) => jobs.push(job),
            Err(error) => {
                let error = anyhow::Error::new(error);
                return (jobs, Err(error.context(format!("cannot start a worker on lcore {lcore}"))));
            }
        }
    }
    (jobs, Ok(()))
}

/// Sets the network up as the configuration says and learns the rest, so that the first packet finds it.
async fn prepare(director: &Director, handle: &rtnetlink::Handle) -> Result<()> {
    let seen = mirror::read_interfaces(handle).await?;
    let interface_of =
        seen.interfaces.iter().map(|(index, interface)| (interface.name.clone(), *index)).collect();
    let config = director.config.borrow().clone();
    mirror::set_up(handle, &config, &interface_of).await?;
    director.set_static_neighbours(None, &config);
    director.read_network().await
}

/// Runs the control core's tasks until one fails or a signal comes.
async fn serve(
    director: &Rc<Director>,
    handle: &rtnetlink::Handle,
    sockets: &mut Sockets,
    hangup: Signal,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (unknown, asked) = mpsc::unbounded_channel();
    tracing::info!("forwarding");
    supervisor::tell("READY=1");
    tokio::select! {
        ended = director.turn_for_ever(unknown) => ended.context("the control core's loop"),
        ended = director.mirror(handle, asked) => ended.context("following the kernel's network"),
        () = sockets.serve(director) => bail!("the sockets were closed"),
        () = director.reload_by(hangup) => bail!("no more signals come"),
        _ = terminate.recv() => { tracing::info!("terminated"); Ok(()) }
        _ = interrupt.recv() => { tracing::info!("interrupted"); Ok(()) }
    }
}

/// The configuration's number of each DPDK port.
fn port_numbers(ports: &[PortRuntime]) -> Arc<[usize]> {
    let most = ports.iter().map(|port| usize::from(port.port.id())).max().unwrap_or(0);
    let mut numbers = vec![0; most + 1];
    for (at, port) in ports.iter().enumerate() {
        numbers[usize::from(port.port.id())] = at;
    }
    numbers.into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_manual_page_has_every_option() {
        let page = include_str!("../../../docs/man/director.8").replace("\\-", "-");
        for option in Arguments::command().get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(page.contains(&format!("--{option}")), "--{option}");
        }
    }

    fn allowed(eal: &str, devices: &[&str]) -> Vec<String> {
        let mut text = format!("[dpdk]\nlcores = \"0-1\"\neal = [{eal}]\n");
        for (number, device) in devices.iter().enumerate() {
            text.push_str(&format!("[[port]]\nname = \"p{number}\"\ndevice = \"{device}\"\n"));
        }
        let config = Config::parse("director.toml", &text).map_err(|errors| errors.report().to_string());
        allowed_devices(&config.unwrap())
    }

    #[test]
    fn eal_takes_the_devices_of_the_file() {
        assert_eq!(
            allowed("", &["0000:03:00.0,rx_vec=1", "03:00.1", "net_tap0"]),
            ["--allow=0000:03:00.0,rx_vec=1", "--allow=0000:03:00.1"]
        );
        assert_eq!(allowed("", &["net_tap0", "net_null0"]), ["--no-pci"]);
    }

    #[test]
    fn the_file_can_choose_otherwise() {
        assert_eq!(allowed("\"-a\", \"0000:03:00.0\"", &["0000:03:00.0"]), [""; 0]);
        assert_eq!(allowed("\"--no-pci\"", &["net_tap0"]), [""; 0]);
        let bonding = "\"--vdev=net_bonding0,mode=1,slave=0000:03:00.0\"";
        assert_eq!(allowed(bonding, &["net_tap0"]), [""; 0]);
        assert_eq!(allowed("", &["net_bonding0,mode=4,slave=0000:03:00.0", "0000:04:00.0"]), [""; 0]);
    }
}
