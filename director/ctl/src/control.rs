//! Questions to the director's sockets.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use director_api::{Answer, IPVS_SOCKET, Reloaded, Request, SOCKET, Status, Sysctl};
use director_ipvs::{Header, client};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// How long a director may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take to read its file again: the file may be long and on a slow disk, and then it has to be
/// carried out.
const RELOADING: Duration = Duration::from_secs(300);

/// Asks for the whole state.
pub(crate) fn status(directory: &Path) -> anyhow::Result<Status> {
    match answer(directory, &Request::Status)? {
        Answer::Status(status) => Ok(*status),
        other => Err(refused(other)),
    }
}

/// Asks for sysctls, or sets one.
pub(crate) fn sysctls(directory: &Path, request: &Request) -> anyhow::Result<BTreeMap<String, Sysctl>> {
    match answer(directory, request)? {
        Answer::Sysctls(values) => Ok(values),
        other => Err(refused(other)),
    }
}

/// Makes the director read its configuration file again, or says what is wrong with the file.
pub(crate) fn reload(directory: &Path) -> anyhow::Result<Result<Reloaded, String>> {
    match answer(directory, &Request::Reload)? {
        Answer::Reloaded(reloaded) => Ok(Ok(reloaded)),
        Answer::WrongFile(report) => Ok(Err(report)),
        other => Err(refused(other)),
    }
}

fn answer(directory: &Path, request: &Request) -> anyhow::Result<Answer> {
    let path = directory.join(SOCKET);
    let answer = ask(&path, request).map_err(|error| no_director(&path, &error))?;
    serde_json::from_slice(&answer)
        .with_context(|| format!("what answers at {} is no director of this version", path.display()))
}

/// An answer that does not fit the question.
fn refused(answer: Answer) -> anyhow::Error {
    match answer {
        Answer::Error(reason) => anyhow!("the director refuses: {reason}"),
        _ => anyhow!("the director answers another question"),
    }
}

fn ask(path: &Path, request: &Request) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path)?;
    let patience = if matches!(request, Request::Reload) { RELOADING } else { PATIENCE };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| late(error, patience))?;
    Ok(answer)
}

/// Asks the IPVS socket for its family, as every LVS tool does first.
pub(crate) fn check_ipvs(directory: &Path) -> anyhow::Result<()> {
    let path = directory.join(IPVS_SOCKET);
    let answer = ask_family(&path).map_err(|error| no_director(&path, &error))?;
    if answer == 0 {
        bail!("the director closed {} without an answer; its log says why", path.display());
    }
    Ok(())
}

fn ask_family(path: &Path) -> io::Result<usize> {
    let socket: OwnedFd =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
        .map_err(|error| late(error.into(), PATIENCE))?;
    let question = client::encode(&director_ipvs::Request::GetFamily, &Header::default());
    rustix::net::send(&socket, &question, SendFlags::NOSIGNAL)?;
    let mut answer = [0; director_ipvs::DATAGRAM_SIZE];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())
        .map_err(|error| late(error.into(), PATIENCE))?;
    Ok(length)
}

/// The system reports a timeout of a socket as "try again", which tells a user nothing.
fn late(error: io::Error, patience: Duration) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it accepts the connection and is silent for {} s", patience.as_secs()),
        );
    }
    error
}

fn no_director(path: &Path, error: &io::Error) -> anyhow::Error {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "you must be root",
        _ => "is it running, with this `[control] directory`?",
    };
    anyhow!("no director answers at {}: {error} ({hint})", path.display())
}
