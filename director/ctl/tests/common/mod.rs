//! A director in memory, to run the real tools against: IPVS's messages and `/proc` texts, no packets.

#![allow(dead_code, reason = "every test program uses its own part")]

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::thread;

use director_api::{Answer as ControlAnswer, Request as ControlRequest, Status};
use director_ipvs::Messages;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

pub(crate) mod model;

use model::Model;

/// The fake director. Its threads end with it.
pub(crate) struct Director {
    directory: tempfile::TempDir,
    state: Arc<State>,
    /// Closed when the director goes; every thread watches the other end.
    stop: Option<OwnedFd>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What the threads share.
pub(crate) struct State {
    pub(crate) model: Mutex<Model>,
    pub(crate) status: Mutex<Status>,
    /// What is answered to any other request.
    pub(crate) prepared: Mutex<Option<ControlAnswer>>,
    /// The last of these.
    pub(crate) asked: Mutex<Option<ControlRequest>>,
    /// Every datagram that came over the IPVS socket.
    pub(crate) received: Mutex<Vec<Vec<u8>>>,
    /// Closes connections instead of answering anything but the family.
    pub(crate) mute: Mutex<bool>,
    stopped: OwnedFd,
}

impl Director {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (stopped, stop) = std::io::pipe().expect("a pipe");
        let state = Arc::new(State {
            model: Mutex::default(),
            status: Mutex::default(),
            prepared: Mutex::default(),
            asked: Mutex::default(),
            received: Mutex::default(),
            mute: Mutex::new(false),
            stopped: stopped.into(),
        });
        let ipvs = ipvs_listener(&directory.path().join(director_api::IPVS_SOCKET));
        let control = UnixListener::bind(directory.path().join(director_api::SOCKET)).expect("a socket");
        let (of_ipvs, of_control) = (Arc::clone(&state), Arc::clone(&state));
        let threads = vec![
            thread::spawn(move || {
                while of_ipvs.readable(&ipvs) {
                    let client = rustix::net::accept(&ipvs).expect("a connection");
                    let state = Arc::clone(&of_ipvs);
                    thread::spawn(move || state.serve_ipvs(&client));
                }
            }),
            thread::spawn(move || {
                while of_control.readable(&control) {
                    let (client, _) = control.accept().expect("a connection");
                    let state = Arc::clone(&of_control);
                    thread::spawn(move || state.serve_control(client));
                }
            }),
        ];
        Self { directory, state, stop: Some(stop.into()), threads }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `directorctl ARGUMENTS` for this director.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Command {
        let mut command = ctl();
        command.arg("--directory").arg(self.directory()).args(arguments);
        command
    }

    /// `directorctl exec -- COMMAND`.
    pub(crate) fn exec(&self, command: &[&str]) -> Command {
        let mut all = vec!["exec", "--"];
        all.extend(command);
        self.ctl(&all)
    }

    /// Runs ipvsadm with these blank-separated arguments.
    pub(crate) fn ipvsadm(&self, arguments: &str) -> Done {
        let mut command = vec![tool("ipvsadm")];
        command.extend(arguments.split_whitespace());
        run(self.exec(&command), "")
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl State {
    /// Waits for `fd`; false when the director ends.
    fn readable(&self, fd: &impl AsFd) -> bool {
        let mut fds = [PollFd::new(fd, PollFlags::IN), PollFd::new(&self.stopped, PollFlags::IN)];
        poll(&mut fds, None).expect("poll");
        fds[1].revents().is_empty()
    }

    fn serve_ipvs(&self, client: &OwnedFd) {
        let mut buffer = vec![0; 1 << 16];
        while self.readable(client) {
            let Ok((length @ 1.., _)) = rustix::net::recv(client, &mut buffer, RecvFlags::empty()) else {
                return;
            };
            let datagram = &buffer[..length];
            self.received.lock().unwrap().push(datagram.to_vec());
            for message in Messages::new(datagram) {
                let message = message.expect("a netlink message");
                let mute = *self.mute.lock().unwrap();
                if mute && !matches!(message.request, Ok(director_ipvs::Request::GetFamily)) {
                    return;
                }
                let mut model = self.model.lock().unwrap();
                for datagram in message.answer(model.answer(&message.request)) {
                    if rustix::net::send(client, &datagram, SendFlags::NOSIGNAL).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn serve_control(&self, client: UnixStream) {
        let mut line = String::new();
        let mut reader = BufReader::new(client);
        if reader.read_line(&mut line).is_err() {
            return;
        }
        let mut client = reader.into_inner();
        // The clients under test may go at any time.
        let _ = match serde_json::from_str(&line) {
            Ok(ControlRequest::Proc { file }) => client.write_all(model::proc_file(file)),
            Ok(ControlRequest::Status) => {
                let status = self.status.lock().unwrap().clone();
                let answer = ControlAnswer::Status(Box::new(status));
                client.write_all(&serde_json::to_vec(&answer).unwrap())
            }
            Ok(request) => {
                *self.asked.lock().unwrap() = Some(request);
                let answer = self.prepared.lock().unwrap().clone().expect("an answer");
                client.write_all(&serde_json::to_vec(&answer).unwrap())
            }
            Err(error) => {
                let answer = ControlAnswer::Error(error.to_string());
                client.write_all(&serde_json::to_vec(&answer).unwrap())
            }
        };
    }
}

fn ipvs_listener(path: &Path) -> OwnedFd {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a socket");
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).expect("a short path")).expect("bind");
    rustix::net::listen(&socket, 16).expect("listen");
    socket
}

/// What a command left behind.
#[derive(Debug, PartialEq)]
pub(crate) struct Done {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

/// Runs a command to its end with this standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // Its input may be closed before it is read.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("its end");
    Done {
        stdout: String::from_utf8(stdout).expect("UTF-8"),
        stderr: String::from_utf8(stderr).expect("UTF-8"),
        code: status.code().unwrap_or_else(|| panic!("{command:?} was killed: {status}")),
    }
}

/// `directorctl`, with the preload library beside it.
pub(crate) fn ctl() -> Command {
    let executable = Path::new(env!("CARGO_BIN_EXE_directorctl"));
    build_library(executable);
    let mut command = Command::new(executable);
    command.env_remove("DIRECTOR_DIRECTORY").env_remove("DIRECTOR_PRELOAD").env_remove("LD_PRELOAD");
    command
}

/// Builds the preload library: another package's, which cargo does not build for this one's tests.
fn build_library(executable: &Path) {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let profile = executable.parent().expect("its directory");
        let target = profile.parent().expect("the target directory");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "director-preload", "--target-dir"]).arg(target);
        match profile.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => {}
            Some(name) => {
                cargo.args(["--profile", name]);
            }
        }
        let status = cargo.status().expect("cargo");
        assert!(status.success(), "{cargo:?} failed");
    });
}

/// The path of a tool of the system, which has to be there.
pub(crate) fn tool(name: &str) -> &'static str {
    let directories = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = directories.iter().map(|directory| PathBuf::from(directory).join(name));
    let found = found.into_iter().find(|path| path.is_file());
    let path = found.unwrap_or_else(|| panic!("this test needs `{name}`: apt-get install {}", package(name)));
    Box::leak(path.to_str().expect("UTF-8").to_owned().into_boxed_str())
}

fn package(tool: &str) -> &str {
    match tool {
        "ip" | "genl" => "iproute2",
        "head" => "coreutils",
        "sh" => "dash",
        other => other,
    }
}
