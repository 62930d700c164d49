//! Work that takes long, on a thread beside the control core.

use std::io;

use tokio::sync::oneshot;

/// The weakest claim on the CPU: where the thread shares the control core's, that goes first.
const NICE: i32 = 19;

/// Has a thread of its own do something, and waits for it.
///
/// # Errors
/// The system has no thread to give.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name("beside".into()).spawn(move || {
        // Of this thread alone, on Linux. Without it it works as well.
        let _ = rustix::process::setpriority_process(None, NICE);
        // Nobody waits any more where the director ends.
        let _ = done.send(work());
    })?;
    result.await.map_err(io::Error::other)
}
