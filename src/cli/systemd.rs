//! What systemd is told: that the node is ready, what it is doing, and that every shard still turns.
//!
//! The watchdog is fed only when each shard's loop has turned since it was fed last. A shard without callers sleeps in
//! the kernel, so every look ends with waking all of them: a shard that can be woken turns, and a shard that hangs does not,
//! however busy the others are.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tracing::warn;

use super::notify;
use crate::admin::View;
use crate::drivers::inherited::Inherited;
use crate::feed::FeedState;
use crate::limits::{
    CHECKPOINT_SAVING_US, LOADING_US, LOOKS_PER_WATCHDOG, NODES_LEAVE_MAX, SYSTEMD_LOOK, SYSTEMD_READY_LOOK,
};
use crate::node::Control;
use crate::numbers::counted;
use crate::threads::{Vital, spawn_vital_task};

/// Tells systemd, where it has started this process, until the runtime ends.
pub(super) fn tell_systemd(view: Arc<View>, control: Control) {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        spawn_vital_task(Vital::Systemd, keep_telling(view, control));
    }
}

async fn keep_telling(view: Arc<View>, control: Control) {
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(SYSTEMD_LOOK, |limit| limit / LOOKS_PER_WATCHDOG).min(SYSTEMD_LOOK);
    let mut pulse = Pulse::default();
    let mut told = String::new();
    let mut has_been_ready = false;
    let mut loading = Loading::default();
    let mut fed = Instant::now();
    loop {
        Vital::Systemd.at_work();
        let readiness = view.readiness();
        let status = match readiness.reasons.first() {
            None => format!("serving {}", counted(accounts(&view), "account")),
            Some(reason) => reason.clone(),
        };
        // What finds no room in systemd's queue is told at the next look.
        if status != told && notify::tell(&[NotifyState::Status(&status)]) {
            told = status;
        }
        if readiness.ready && !has_been_ready {
            has_been_ready = true;
            tell_ready();
        }
        notify::tell_ready_if_owed();
        let still = pulse.look(view.shards.iter().map(|shard| shard.metrics.turns.get()).collect());
        // Shards that have drained turn no more, and the unit's TimeoutStopSec= bounds the rest.
        if still.is_empty() || view.is_draining() {
            // Before the watchdog is fed: it would be put off as well.
            if !has_been_ready && loading.gets_on(loaded(&view)) {
                notify::tell(&[NotifyState::ExtendTimeoutUsec(LOADING_US)]);
            }
            if watchdog.is_some() {
                notify::tell(&[NotifyState::Watchdog]);
            }
            fed = Instant::now();
        } else if watchdog.is_some_and(|limit| fed.elapsed() > limit / 2) {
            warn!("shards {still:?} have not turned for {:.1?}: the watchdog is not fed", fed.elapsed());
        }
        control.wake();
        tokio::time::sleep(if has_been_ready { every } else { SYSTEMD_READY_LOOK }).await;
    }
}

/// The sockets that systemd has opened for this process (`florin.socket`): none where it was started otherwise.
pub(super) fn inherited_sockets() -> Inherited {
    let mut handed_over = ListenFd::from_env();
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for index in 0..handed_over.len() {
        // One that is of another kind stays where it is, and is of no use.
        if let Ok(Some(listener)) = handed_over.take_tcp_listener(index) {
            sockets.push(listener.into());
        } else if let Ok(Some(listener)) = handed_over.take_unix_listener(index) {
            sockets.push(listener.into());
        } else {
            warn!(index, "systemd has handed over something that is no listening stream socket");
        }
    }
    Inherited::new(sockets)
}

/// Tells systemd that callers are taken from now on, where that is known at once.
pub(super) fn tell_ready() {
    notify::owe_ready();
    notify::tell_ready_if_owed();
}

/// A checkpoint is made before the node ends.
pub(super) fn tell_saving() {
    notify::tell(&[
        NotifyState::ExtendTimeoutUsec(CHECKPOINT_SAVING_US),
        NotifyState::Status("making a last checkpoint"),
    ]);
}

/// Tells systemd that the end was asked for, and other nodes are to have this one's users first.
pub(super) fn tell_leaving() {
    let leaving_us = NODES_LEAVE_MAX.as_micros() as u32;
    notify::tell(&[
        NotifyState::ExtendTimeoutUsec(leaving_us + CHECKPOINT_SAVING_US),
        NotifyState::Status("other nodes take over its users"),
    ]);
}

/// Tells systemd that the end was asked for.
pub(super) fn tell_stopping() {
    notify::tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Lets systemd keep a listening socket, so that callers find it open while this process is started again.
pub(super) fn keep_socket(name: &str, socket: BorrowedFd<'_>) {
    let Some(manager) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = hand_over(manager.as_bytes(), &format!("FDSTORE=1\nFDNAME={name}"), socket) {
        warn!(%error, "systemd does not keep the socket {name}");
    }
}

/// One message to systemd, with a descriptor beside it (sd_pid_notify_with_fds(3)).
fn hand_over(manager: &[u8], message: &str, socket: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, sendmsg_addr, socket_with,
    };
    let address = match manager.strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(manager)?,
    };
    let from = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket];
    beside.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg_addr(&from, &address, &[io::IoSlice::new(message.as_bytes())], &mut beside, SendFlags::DONTWAIT)?;
    Ok(())
}

/// Feeds the watchdog, where there is one, as long as all of `turns` move on, until it is told that they need not.
pub(super) async fn feed_watchdog(turns: Vec<Arc<AtomicU64>>, may_rest: Arc<AtomicBool>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(SYSTEMD_LOOK, |limit| limit / LOOKS_PER_WATCHDOG).min(SYSTEMD_LOOK);
    let mut pulse = Pulse::default();
    loop {
        let still = pulse.look(turns.iter().map(|turns| turns.load(Ordering::Relaxed)).collect());
        if still.is_empty() || may_rest.load(Ordering::Relaxed) {
            if watchdog.is_some() {
                notify::tell(&[NotifyState::Watchdog]);
            }
        } else {
            warn!("callers' threads {still:?} do not turn: the watchdog is not fed");
        }
        notify::tell_ready_if_owed();
        tokio::time::sleep(every).await;
    }
}

/// Tells systemd that the configuration is being read again, and when `reload` is done with it. Both only once the node has been
/// called ready: the second is the same word, and a node that is loading must not say it.
pub(super) fn tell_reloading(reload: impl FnOnce()) {
    if !notify::has_said_ready() {
        return reload();
    }
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify::tell(&[NotifyState::Reloading, now]);
    }
    reload();
    tell_ready();
}

fn accounts(view: &View) -> u64 {
    view.shards.iter().map(|shard| shard.metrics.accounts.get()).sum()
}

/// What there is of a ledger that is not loaded yet: rows taken from it, re-read ones, and accounts. `None` where nothing is loaded.
fn loaded(view: &View) -> Option<u64> {
    let feed = view.feed.as_ref().filter(|feed| matches!(feed.state(), FeedState::Loading { .. }))?;
    Some(feed.rows() + feed.rereads() + accounts(view))
}

/// A ledger is as large as it is: a node that gets on with it is given time, and one that does not has the unit's TimeoutStartSec=.
#[derive(Default)]
struct Loading {
    loaded: u64,
    asked: Option<Instant>,
}

impl Loading {
    /// Whether there is something else than at the last look. It is looked at once a second.
    fn gets_on(&mut self, loaded: Option<u64>) -> bool {
        if self.asked.is_some_and(|asked| asked.elapsed() < SYSTEMD_LOOK) {
            return false;
        }
        let Some(loaded) = loaded.filter(|loaded| *loaded != self.loaded) else { return false };
        *self = Loading { loaded, asked: Some(Instant::now()) };
        true
    }
}

/// The turns of each shard's loop, when all of them had last turned.
#[derive(Default)]
struct Pulse {
    turns: Vec<u64>,
}

impl Pulse {
    /// The shards that have not turned since all of them had; of the first look nothing can be said.
    fn look(&mut self, turns: Vec<u64>) -> Vec<usize> {
        let pairs = self.turns.iter().zip(&turns).enumerate();
        let still: Vec<usize> =
            pairs.filter(|(_, (before, now))| before == now).map(|(shard, _)| shard).collect();
        if still.is_empty() {
            self.turns = turns;
        }
        still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_that_hangs_is_seen_however_busy_the_others_are() {
        let mut pulse = Pulse::default();
        assert!(pulse.look(vec![0, 0]).is_empty());
        assert!(pulse.look(vec![1, 9]).is_empty());
        assert_eq!(pulse.look(vec![1, 70_000]), [0]);
        assert_eq!(pulse.look(vec![1, 140_000]), [0]);
        assert!(pulse.look(vec![2, 140_000]).is_empty(), "shard 1 had turned meanwhile");
        assert_eq!(pulse.look(vec![2, 140_000]), [0, 1]);
    }

    #[test]
    fn whoever_gets_on_with_loading_is_given_time_and_nobody_else() {
        let mut loading = Loading::default();
        let later = |loading: &mut Loading| loading.asked = loading.asked.map(|asked| asked - SYSTEMD_LOOK);
        assert!(!loading.gets_on(None) && !loading.gets_on(Some(0)));
        assert!(loading.gets_on(Some(5)));
        assert!(!loading.gets_on(Some(6)), "not within the same second");
        later(&mut loading);
        assert!(loading.gets_on(Some(6)));
        later(&mut loading);
        assert!(!loading.gets_on(Some(6)), "it stands still");
        assert!(loading.gets_on(Some(1)), "it has begun anew");
        later(&mut loading);
        assert!(!loading.gets_on(None), "it does something else");
    }

    /// SIGHUP while the ledger was being loaded ended with READY=1, the word by which a reload is done, and systemd sent callers.
    #[test]
    fn a_reload_says_ready_only_where_the_node_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let test = "cli::systemd::tests::reloads_before_and_after_it_is_ready";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let ended =
            command.args(["--exact", "--ignored", test]).env("NOTIFY_SOCKET", &path).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        manager.set_nonblocking(true).unwrap();
        let mut bytes = [0; 100];
        let heard = std::iter::from_fn(|| {
            let length = manager.recv(&mut bytes).ok()?;
            Some(bytes[..length].to_vec())
        });
        let said: Vec<String> = heard.map(|bytes| String::from_utf8(bytes).unwrap()).collect();
        assert_eq!(said.len(), 4, "{said:?}");
        let begins = ["STATUS=loading\n", "READY=1\n", "RELOADING=1\nMONOTONIC_USEC=", "READY=1\n"];
        for (said, begin) in said.iter().zip(begins) {
            assert!(said.starts_with(begin), "{said}");
        }
    }

    #[test]
    #[ignore = "has a process of its own, in which nothing is ready yet; the test above runs it"]
    fn reloads_before_and_after_it_is_ready() {
        tell_reloading(|| {
            notify::tell(&[NotifyState::Status("loading")]);
        });
        tell_ready();
        tell_reloading(|| {});
    }

    /// systemd's side of the descriptor store: whatever is kept there comes back as the same socket.
    #[test]
    fn a_socket_is_handed_over_with_its_name() {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::os::fd::AsFd::as_fd(&listener);
        hand_over(path.as_os_str().as_bytes(), "FDSTORE=1\nFDNAME=listen", socket).unwrap();
        let mut words = [0; 100];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [io::IoSliceMut::new(&mut words)];
        let read = recvmsg(&manager, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC).unwrap();
        assert_eq!(&words[..read.bytes], b"FDSTORE=1\nFDNAME=listen");
        let kept = beside.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        let kept = std::net::TcpListener::from(kept.unwrap());
        assert_eq!(kept.local_addr().unwrap(), listener.local_addr().unwrap());
    }
}
