//! Tells the supervisor how the director is: systemd's notification protocol, sd_notify(3).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells the supervisor that the director forwards, or that it is about to end. Does nothing unless the supervisor
/// has asked for it by the variable `NOTIFY_SOCKET`. Failure is logged.
pub(crate) fn tell(state: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("cannot tell {state} to NOTIFY_SOCKET={}: {error}", socket.display());
    }
}

/// Sends `state` to a socket: a path, or a name in the abstract namespace after an `@`.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let sent = UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    if sent == state.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_of_either_kind_is_told() {
        let path = env::temp_dir().join(format!("supervisor-{}", std::process::id()));
        let listener = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(received(&listener), "READY=1");

        let name = format!("supervisor-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        assert_eq!(received(&listener), "STOPPING=1");
    }

    #[test]
    fn nobody_at_the_socket_is_an_error() {
        assert_eq!(
            send(OsStr::new("/nowhere/notify"), "READY=1").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
