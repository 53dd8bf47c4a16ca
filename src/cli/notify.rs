//! Datagrams to the service manager (sd_notify(3)). They never wait: the thread that sends them also hears signals and answers
//! the admin port, and systemd's queue is full while systemd is busy or stopped.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};

use sd_notify::NotifyState;
use tracing::warn;

/// READY is due, and has not been heard.
static OWES_READY: AtomicBool = AtomicBool::new(false);
/// READY has been heard.
static HAS_SAID_READY: AtomicBool = AtomicBool::new(false);

/// Tells the service manager; whether there is one that heard it, or none at all.
pub(super) fn tell(state: &[NotifyState<'_>]) -> bool {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return true };
    let text: String = state.iter().map(|state| format!("{state}\n")).collect();
    match send(socket.as_bytes(), text.as_bytes()) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => {
            warn!(%error, "systemd does not hear");
            true
        }
    }
}

/// From now on READY is due.
pub(super) fn owe_ready() {
    OWES_READY.store(true, Ordering::Relaxed);
}

/// Says READY where it is due and can be said.
pub(super) fn tell_ready_if_owed() {
    if OWES_READY.load(Ordering::Relaxed) && tell(&[NotifyState::Ready]) {
        OWES_READY.store(false, Ordering::Relaxed);
        HAS_SAID_READY.store(true, Ordering::Relaxed);
    }
}

/// Whether READY was said.
pub(super) fn has_said_ready() -> bool {
    HAS_SAID_READY.load(Ordering::Relaxed)
}

/// Sends without waiting, to a path or to an abstract name (`@name`), which lies in no file system.
fn send(address: &[u8], text: &[u8]) -> io::Result<()> {
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `@name` was taken for a path, and a manager that did not read its queue blocked the only control thread: two SIGTERMs were
    /// not heard.
    #[test]
    fn abstract_names_are_reached_and_a_full_queue_is_not_waited_for() {
        let name = format!("florin-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let address = format!("@{name}");
        send(address.as_bytes(), b"READY=1\n").unwrap();
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1\n");
        let full = (0..1 << 16).find_map(|_| send(address.as_bytes(), b"STATUS=x\n").err());
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    }
}
