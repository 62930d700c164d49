//! The two sockets of an instance: IPVS's netlink for LVS tools, and the control socket.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use director_api::{Answer, ProcFile, Request};
use director_ipvs::Messages;
use rustix::net::RecvFlags;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_seqpacket::{UnixSeqpacket, UnixSeqpacketListener};

use crate::beside::beside;
use crate::clock::every;
use crate::director::Director;
use crate::{ipvs, procfs, sysctls};

/// The longest netlink datagram that is accepted: far longer than any command of IPVS's.
const LONGEST: usize = 8 * 1024;

/// The longest request on the control socket, in bytes.
const LONGEST_REQUEST: u64 = 64 * 1024;

/// How many lines, or places of the table, are listed before other tasks get their turn.
const LISTED_AT_ONCE: u32 = 1000;

/// How many clients of a socket are served at once; others wait until one leaves. The director needs file descriptors
/// for itself, and by default it may have only 1,024.
const CLIENTS: usize = 256;

/// How long a client of the control socket may take to send its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is checked that the sockets' files are still there.
const LOOK: Duration = Duration::from_secs(1);

/// A socket that clients connect to.
trait Listen: Sized {
    type Client;

    fn bind(path: &Path) -> io::Result<Self>;
    async fn accept(&mut self) -> io::Result<Self::Client>;
}

impl Listen for UnixSeqpacketListener {
    type Client = UnixSeqpacket;

    fn bind(path: &Path) -> io::Result<Self> {
        Self::bind(path)
    }

    async fn accept(&mut self) -> io::Result<UnixSeqpacket> {
        Self::accept(self).await
    }
}

impl Listen for UnixListener {
    type Client = UnixStream;

    fn bind(path: &Path) -> io::Result<Self> {
        Self::bind(path)
    }

    async fn accept(&mut self) -> io::Result<UnixStream> {
        Ok(Self::accept(self).await?.0)
    }
}

/// A listening socket and its file, which is removed with it.
struct Listening<L> {
    path: PathBuf,
    /// Device and inode number of the file. No other file has them as long as the socket is open.
    file: (u64, u64),
    socket: L,
}

impl<L: Listen> Listening<L> {
    /// Listens in place of an earlier director's socket.
    fn open(path: PathBuf) -> Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        let (socket, file) = listen(&path)?;
        Ok(Self { path, file, socket })
    }

    /// Makes the file again if somebody removed it: without it, nobody could reach the director.
    fn restore(&mut self) {
        let is_gone = fs::symlink_metadata(&self.path)
            .is_err_and(|error| matches!(error.kind(), io::ErrorKind::NotFound));
        if !is_gone {
            return;
        }
        if let Some(directory) = self.path.parent() {
            let _ = fs::create_dir_all(directory);
        }
        match listen(&self.path) {
            Ok((socket, file)) => {
                tracing::warn!("{} was removed; it is there again", self.path.display());
                (self.socket, self.file) = (socket, file);
            }
            Err(error) => tracing::warn!("somebody removed the socket: {error:#}"),
        }
    }
}

impl<L> Drop for Listening<L> {
    fn drop(&mut self) {
        if file_at(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen<L: Listen>(path: &Path) -> Result<(L, (u64, u64))> {
    let cannot = || format!("cannot listen on {}", path.display());
    let socket = L::bind(path).with_context(cannot)?;
    // As with the kernel's IPVS, only root may configure it.
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).with_context(cannot)?;
    Ok((socket, file_at(path).with_context(cannot)?))
}

fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Both sockets, listening.
pub(crate) struct Sockets {
    ipvs: Listening<UnixSeqpacketListener>,
    control: Listening<UnixListener>,
}

impl Sockets {
    /// Makes the directory and the sockets in it, or fails if another director listens there.
    pub(crate) async fn listen(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        let ipvs = directory.join(director_api::IPVS_SOCKET);
        match UnixSeqpacket::connect(&ipvs).await {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot tell whether another director listens on {}", ipvs.display())
                });
            }
            Ok(_) => bail!(
                "another director listens in {}; give this one a [control] directory of its own",
                directory.display()
            ),
        }
        let control = directory.join(director_api::SOCKET);
        Ok(Self { ipvs: Listening::open(ipvs)?, control: Listening::open(control)? })
    }

    /// Serves whoever connects, for ever.
    pub(crate) async fn serve(&mut self, director: &Rc<Director>) {
        let ipvs = serve(&mut self.ipvs, "IPVS", |client| serve_ipvs_client(client, director.clone()));
        let control = serve(&mut self.control, "control", |client| {
            let director = director.clone();
            async move {
                if let Err(error) = serve_control_client(client, &director).await {
                    tracing::debug!("a client of the control socket: {error}");
                }
            }
        });
        tokio::join!(ipvs, control);
    }
}

/// How long to wait if a client could not be accepted for lack of descriptors or memory.
const RECOVER: Duration = Duration::from_millis(100);

/// Starts a task of its own for each client that connects, for ever; `kind` names the socket in the log.
async fn serve<L: Listen, T: Future<Output = ()> + 'static>(
    listening: &mut Listening<L>,
    kind: &str,
    client: impl Fn(L::Client) -> T,
) {
    let mut look = every(LOOK);
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await;
            listening.socket.accept().await.map(|client| (client, place))
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            _ = look.tick() => {
                listening.restore();
                continue;
            }
        };
        match accepted {
            Ok((accepted, place)) => {
                let serve = client(accepted);
                spawn_local(async move {
                    serve.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("accepting a client of the {kind} socket: {error}");
                tokio::time::sleep(RECOVER).await;
            }
        }
    }
}

/// How long to wait for the next datagram of a client that may send more: mostly it comes sooner, and going through
/// the event loop takes as long as carrying out the command.
const WAIT: Duration = Duration::from_micros(20);

/// How long one client may keep the control core to itself.
const HELD: Duration = Duration::from_micros(200);

/// Waits a moment for the next datagram of a client. Returns its length, 0 at the end, or none if nothing comes soon
/// enough. `since` is when others last had their turn.
fn receive_soon(client: &UnixSeqpacket, buffer: &mut [u8], since: Instant) -> Option<usize> {
    let begun = Instant::now();
    if begun >= since + HELD {
        return None;
    }
    let until = (begun + WAIT).min(since + HELD);
    loop {
        match rustix::net::recv(client, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => return Some(length),
            // If anything is wrong with the socket, the next call reports it.
            Err(_) if Instant::now() >= until => return None,
            // The tool may have to run on this CPU.
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// Answers a client's netlink messages until it leaves. Leaving with an unread answer is no error.
async fn serve_ipvs_client(client: UnixSeqpacket, director: Rc<Director>) {
    let mut buffer = vec![0; LONGEST];
    let mut since = Instant::now();
    let mut has_more = false;
    loop {
        let mut soon = None;
        if has_more {
            soon = receive_soon(&client, &mut buffer, since);
            if soon.is_none() {
                // Others have their turn. The client has probably sent more meanwhile, which the event loop would
                // notice only later.
                tokio::task::yield_now().await;
                since = Instant::now();
                soon = receive_soon(&client, &mut buffer, since);
            }
        }
        let length = match soon {
            Some(length) => length,
            None => {
                let length = client.recv(&mut buffer).await.map_or(0, |message| message.bytes_read());
                since = Instant::now();
                length
            }
        };
        if length == 0 {
            return;
        }
        for message in Messages::new(&buffer[..length]) {
            let message = match message {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!("a datagram on the IPVS socket: {error}");
                    break;
                }
            };
            director.commands.update(|count| count.wrapping_add(1));
            has_more = message.header.later();
            let answer = match &message.request {
                Ok(request) => ipvs::answer(&director, request.clone(), message.header.later()),
                Err(malformed) => {
                    tracing::warn!("a message on the IPVS socket: {malformed}");
                    director_ipvs::Answer::Refused(malformed.errno())
                }
            };
            let mut datagrams = message.answer(answer).peekable();
            while let Some(datagram) = datagrams.next() {
                if client.send(&datagram).await.is_err() {
                    return;
                }
                if datagrams.peek().is_some() {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Answers the one request of a client of the control socket.
async fn serve_control_client(mut client: UnixStream, director: &Director) -> io::Result<()> {
    let (reader, mut writer) = client.split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(LONGEST_REQUEST));
    timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(Request::Status) => Answer::Status(Box::new(director.status().await)),
        Ok(Request::Get { name }) => sysctls::get(&director.state.borrow(), name.as_deref()),
        Ok(Request::Set { name, value }) => sysctls::set(&mut director.state.borrow_mut(), &name, &value),
        Ok(Request::Reload) => director.answer_reload().await,
        Ok(Request::Proc { file: ProcFile::IpVs }) => {
            writer.write_all(procfs::SERVICES.as_bytes()).await?;
            let mut place = procfs::Place::default();
            loop {
                let most = LISTED_AT_ONCE as usize;
                let text = procfs::services(&director.state.borrow().control, &mut place, most);
                if text.is_empty() {
                    return Ok(());
                }
                writer.write_all(text.as_bytes()).await?;
                tokio::task::yield_now().await;
            }
        }
        Ok(Request::Proc { file: ProcFile::IpVsStats }) => {
            let text = procfs::statistics(&director.state.borrow().control);
            return writer.write_all(text.as_bytes()).await;
        }
        Ok(Request::Proc { file: ProcFile::IpVsStatsPercpu }) => {
            let text = procfs::statistics_by_worker(&director.state.borrow().control);
            return writer.write_all(text.as_bytes()).await;
        }
        Ok(Request::Proc { file: ProcFile::IpVsConn }) => {
            writer.write_all(procfs::CONNECTIONS.as_bytes()).await?;
            let mut from = Some(0);
            while let Some(at) = from {
                let (text, next) = procfs::connections(
                    &director.state.borrow().control,
                    director.clock.read().0,
                    at,
                    LISTED_AT_ONCE,
                );
                writer.write_all(text.as_bytes()).await?;
                tokio::task::yield_now().await;
                from = next;
            }
            return Ok(());
        }
        Err(error) => Answer::Error(format!("not a request: {error}")),
    };
    // With many services this takes long, so another thread does it.
    let text = beside(move || serde_json::to_string(&answer)).await??;
    writer.write_all(text.as_bytes()).await
}
