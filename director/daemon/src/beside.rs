//! Work that takes long, on a thread beside the control core.

use std::io;

use tokio::sync::oneshot;

/// The lowest priority: where the thread shares the control core's CPU, the control core goes first.
const NICE: i32 = 19;

/// Runs something on a thread of its own and waits for the result.
///
/// # Errors
/// The system has no thread to give.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name("beside".into()).spawn(move || {
        // On Linux this is the priority of this thread alone. If it cannot be set, the work is done all the same.
        let _ = rustix::process::setpriority_process(None, NICE);
        // When the director ends, nobody waits any more.
        let _ = done.send(work());
    })?;
    result.await.map_err(io::Error::other)
}
