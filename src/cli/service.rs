//! A node and the admin port beside it: what `florin serve` and `florin demo` run.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::SockRef;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, warn};

use super::settings::Effective;
use super::systemd::{tell_leaving, tell_saving, tell_stopping};
use crate::admin::{self, Guard, LedgerWriter, Ports, View, WriterThread, Writing};
use crate::callers::{AuditLog, Callers};
use crate::drivers::inherited::Inherited;
use crate::drivers::{listen::remedy, tcp};
use crate::limits::{ADMIN_END, NEIGHBOURS_LOOK, NODES_LEAVE_MAX, WRITER_END};
use crate::node::{Control, Node, NodeConfig, StartError};
use crate::nodes::{Nodes, NodesError, NodesStatus};
use crate::threads::{EndsProcess, Vital, spawn_vital_task};

/// Why there is nothing running.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The node refused.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Somebody else has the admin port.
    #[error("the admin port {address} is taken: end who has it (ss -ltnp names it), or give another --admin")]
    AdminTaken {
        /// Which.
        address: SocketAddr,
    },
    /// The admin port cannot be had for another reason.
    #[error(
        "cannot listen on the admin address {address}: {source}; {} (--admin), or say --admin off",
        remedy(source)
    )]
    AdminListen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no evidence without a file.
    #[error("cannot write the audit log {}: {source}; give another --audit-log", .path.display())]
    AuditLog {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The host gives no thread, no signal, no timer.
    #[error("cannot start the control plane: {0}")]
    ControlPlane(#[source] io::Error),
    /// The group of nodes cannot be joined.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// It is in its group no more, and would answer as if it were.
    #[error("{0}")]
    OutOfGroup(String),
    /// A shard has failed.
    #[error("the node has ended by itself: {0}")]
    Ended(String),
}

impl ServiceError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServiceError::Start(refusal) => refusal.exit_code(),
            ServiceError::AdminTaken { .. } => 13,
            ServiceError::AdminListen { .. } | ServiceError::AuditLog { .. } => 18,
            ServiceError::Nodes(NodesError::Group(error)) => error.exit_code,
            ServiceError::Nodes(
                NodesError::NoPartitions
                | NodesError::NoListener
                | NodesError::Token(_)
                | NodesError::Authorities(_),
            ) => 2,
            ServiceError::OutOfGroup(_) => 24,
            ServiceError::Nodes(NodesError::Thread(_))
            | ServiceError::ControlPlane(_)
            | ServiceError::Ended(_) => 1,
        }
    }

    /// Whether another port would help.
    pub(super) fn is_port_taken(&self) -> bool {
        self.exit_code() == 13
    }
}

/// A node that serves, and an admin port that will.
pub(super) struct Service {
    pub(super) node: Node,
    pub(super) view: Arc<View>,
    admin: Option<TcpListener>,
    guard: Guard,
    tls_admin: Option<TcpListener>,
    writing: Writing,
    writer_thread: WriterThread,
    pub(super) audit_log: Option<AuditLogAndThread>,
    /// A checkpoint is made before the node ends.
    saves_at_end: bool,
    /// Those that the users are divided with.
    nodes: Option<Nodes>,
}

impl Service {
    /// Takes the ports and starts the shards; the ledger is being loaded when this returns.
    pub(super) fn start(settings: Effective) -> Result<Service, ServiceError> {
        Service::start_on(settings, Inherited::default())
    }

    /// The same with sockets that this process was started with.
    pub(super) fn start_on(settings: Effective, inherited: Inherited) -> Result<Service, ServiceError> {
        let bind_at = |address| bind_admin(address, &inherited);
        let admin = settings.admin.map(bind_at).transpose()?;
        let tls_admin = settings.tls_admin.map(bind_at).transpose()?;
        let max_staleness_ms = settings.node.max_staleness_ms;
        let saves_at_end = settings.node.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.at_end);
        let callers = settings.node.callers.clone();
        let mut node = Node::start(NodeConfig { inherited: inherited.clone(), ..settings.node })?;
        for place in inherited.unused() {
            error!(
                "the socket on {place} was handed over and nothing here uses it: who connects there waits in vain; name it in the \
                 configuration, or take it out of florin.socket"
            );
        }
        let nodes = settings.group.map(|group| Nodes::join(&mut node, &group)).transpose()?;
        let mut view = view_of(&node, max_staleness_ms);
        view.nodes = nodes.as_ref().map(|nodes| Arc::clone(nodes.status()));
        view.callers.clone_from(&callers);
        view.looks = node.take_looks().into();
        let view = Arc::new(view);
        let audit_log =
            settings.audit_log.map(|path| start_audit_log(&path, callers.clone(), &node)).transpose()?;
        let log = audit_log.as_ref().map(|(log, _)| log.clone());
        let guard = Guard::new(callers, log, node.clock());
        let (writer, writer_thread) =
            LedgerWriter::start(node.ledger().appender()).map_err(ServiceError::ControlPlane)?;
        let writing = Writing { writer, hosts: settings.admin_hosts };
        Ok(Service {
            node,
            view,
            admin,
            tls_admin,
            guard,
            writing,
            writer_thread,
            audit_log,
            saves_at_end,
            nodes,
        })
    }

    /// Where the admin port listens.
    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// What listens where, for people.
    pub(super) fn describe(&self) -> String {
        let addresses = self.node.addresses();
        let mut lines = vec![format!(
            "florin {}: {} on {}",
            env!("CARGO_PKG_VERSION"),
            if self.view.shards.len() == 1 {
                "1 shard".to_owned()
            } else {
                format!("{} shards", self.view.shards.len())
            },
            self.view.driver
        )];
        lines.extend(addresses.listen.map(|address| format!("  any shard  {address}")));
        for (index, address) in addresses.shard_listen.iter().enumerate() {
            lines.push(format!("  shard {index:<4} {address}"));
        }
        lines.extend(addresses.tls_listen.map(|address| format!("  tls        {address}")));
        for (index, address) in addresses.tls_shard_listen.iter().enumerate() {
            lines.push(format!("  tls {index:<6} {address}"));
        }
        lines.extend(addresses.unix.as_ref().map(|path| format!("  unix       {}", path.display())));
        let plain = self.admin_address().map(|address| format!("http://{address}"));
        let tls = self.tls_admin.as_ref().and_then(|listener| listener.local_addr().ok());
        let tls = tls.map(|address| format!("https://{address}"));
        lines.extend(plain.iter().map(|place| format!("  admin      {place}")));
        lines.extend(tls.iter().map(|place| format!("  tls admin  {place}")));
        lines.extend(plain.or(tls).map(|place| format!("  console    {place}/")));
        lines.join("\n")
    }

    /// Serves the admin port on the current runtime, and watches over the node.
    pub(super) fn run(self) -> Result<Running, ServiceError> {
        let Service {
            node,
            view,
            admin,
            tls_admin,
            guard,
            writing,
            writer_thread,
            audit_log,
            saves_at_end,
            nodes,
        } = self;
        let (admin_end, ended) = oneshot::channel::<()>();
        let listen =
            |listener: Option<TcpListener>| listener.map(tokio::net::TcpListener::from_std).transpose();
        let plain = listen(admin).map_err(ServiceError::ControlPlane)?;
        let tls = listen(tls_admin).map_err(ServiceError::ControlPlane)?;
        let identities = node.tls().map(|tls| Arc::clone(&tls.identities));
        let ports = Ports { plain, tls: tls.zip(identities) };
        let admin = (ports.plain.is_some() || ports.tls.is_some()).then(|| {
            let end = async { ended.await.unwrap_or(()) };
            spawn_vital_task(
                Vital::Admin,
                admin::serve(ports, Arc::clone(&view), writing.clone(), guard, end),
            )
        });
        drop(writing);
        let watched = Arc::clone(&view);
        spawn_vital_task(Vital::Neighbours, async move {
            loop {
                Vital::Neighbours.at_work();
                watched.neighbours.look(&watched.shards);
                tokio::time::sleep(NEIGHBOURS_LOOK).await;
            }
        });
        let control = node.control();
        let node = tokio::task::spawn_blocking(move || node.join().map_err(|error| error.to_string()));
        Ok(Running {
            view,
            control,
            node,
            ended: None,
            admin,
            admin_end,
            writer_thread,
            audit_log,
            saves_at_end,
            _nodes: nodes,
            _end: EndsProcess::of(Vital::Control),
        })
    }
}

/// A service whose control plane runs.
pub(super) struct Running {
    pub(super) view: Arc<View>,
    control: Control,
    node: JoinHandle<Result<(), String>>,
    /// How the node has ended, once it has.
    ended: Option<Result<(), String>>,
    admin: Option<JoinHandle<io::Result<()>>>,
    admin_end: oneshot::Sender<()>,
    writer_thread: WriterThread,
    audit_log: Option<AuditLogAndThread>,
    saves_at_end: bool,
    /// Those that the users are divided with, until the node has ended.
    _nodes: Option<Nodes>,
    /// A panic would stop at the runtime's end, which waits for the node.
    _end: EndsProcess,
}

impl Running {
    /// Not ready from now on: no new connections, what has arrived is answered, and then the node ends.
    pub(super) fn drain(&self) {
        tell_stopping();
        self.view.begin_draining();
        self.control.drain();
    }

    /// Drains, and resolves when the node has ended. Others are to have its users first, and where it is asked for a checkpoint is
    /// made, while callers are served as ever.
    pub(super) async fn save_and_end(&mut self) -> Result<(), ServiceError> {
        if let Some(nodes) = self.view.nodes.clone() {
            tell_leaving();
            if timeout(NODES_LEAVE_MAX, nodes.leave()).await.is_err() {
                warn!(
                    "no other node has all of this one's users yet, and it ends all the same: they are answered once one has"
                );
            }
        }
        if let Some(maker) = self.view.checkpoints.clone().filter(|_| self.saves_at_end) {
            tell_saving();
            let (told, heard) = oneshot::channel();
            maker.make(move |made| {
                // Somebody may have given a second signal.
                let _ = told.send(made.is_ok());
            });
            // Why it was not made, if it was not, the log says.
            let _ = heard.await;
        }
        self.drain();
        self.node_ended().await
    }

    /// What wakes and ends the node.
    pub(super) fn control(&self) -> Control {
        self.control.clone()
    }

    /// Resolves when the node has ended. An admin port that ends before it is told to takes the node with it: nobody
    /// could see any more how the node is.
    pub(super) async fn node_ended(&mut self) -> Result<(), ServiceError> {
        if self.ended.is_none() {
            let outcome = tokio::select! {
                outcome = &mut self.node => outcome.unwrap_or_else(|panic| Err(panic.to_string())),
                reason = ended_early(&mut self.admin) => {
                    error!("{reason}; the node ends");
                    self.drain();
                    (&mut self.node).await.unwrap_or_else(|panic| Err(panic.to_string())).and(Err(reason))
                }
                reason = out_of_group(self.view.nodes.clone()) => {
                    self.drain();
                    let _ = (&mut self.node).await;
                    return Err(ServiceError::OutOfGroup(reason));
                }
            };
            self.ended = Some(outcome);
        }
        self.ended.clone().unwrap_or(Ok(())).map_err(ServiceError::Ended)
    }

    /// Ends the admin port, which was there to watch the draining, and then the ledger's writer: nobody reads the ledger
    /// any more, so it closes the file as the last one.
    pub(super) async fn end(self) {
        drop(self.admin_end);
        if let Some(mut admin) = self.admin {
            // Whoever holds a request open for longer has no claim on an answer.
            if timeout(ADMIN_END, &mut admin).await.is_err() {
                warn!(
                    "requests on the admin port that were not answered within {ADMIN_END:?} of the end are cut"
                );
                admin.abort();
                let _ = admin.await;
            }
        }
        let writer_thread = self.writer_thread;
        let _ = timeout(WRITER_END, tokio::task::spawn_blocking(move || writer_thread.join())).await;
        if let Some((log, thread)) = self.audit_log {
            log.end();
            let _ = timeout(WRITER_END, tokio::task::spawn_blocking(move || thread.join())).await;
        }
    }
}

/// Why the node is out of its group, if it ever is.
async fn out_of_group(nodes: Option<Arc<NodesStatus>>) -> String {
    match nodes {
        Some(nodes) => nodes.out_of_group().await,
        None => std::future::pending().await,
    }
}

/// Why the admin port has ended, if it does; never without one.
async fn ended_early(admin: &mut Option<JoinHandle<io::Result<()>>>) -> String {
    let Some(task) = admin else { return std::future::pending().await };
    let reason = match task.await {
        Ok(Ok(())) => "nobody asked for it".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    *admin = None;
    format!("the admin port has ended by itself: {reason}")
}

/// SIGTERM and SIGINT.
pub(super) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// From now on they no longer end the process by themselves.
    pub(super) fn listen() -> Result<EndSignals, ServiceError> {
        let listen = |kind| signal(kind).map_err(ServiceError::ControlPlane);
        Ok(EndSignals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// The next one's name and number.
    pub(super) async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        }
    }
}

/// The runtime of the control plane: one thread, for the shards have all the CPUs.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, ServiceError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServiceError::ControlPlane)
}

fn bind_admin(address: SocketAddr, inherited: &Inherited) -> Result<TcpListener, ServiceError> {
    let inherited = inherited.tcp(address);
    let socket = inherited.map_err(|source| ServiceError::AdminListen { address, source })?.pop();
    let listener = socket.map_or_else(|| TcpListener::bind(address), |socket| Ok(TcpListener::from(socket)));
    let bound = listener.and_then(|listener| {
        listener.set_nonblocking(true)?;
        // A caller that has vanished would hold one of a few places.
        tcp::prepare(SockRef::from(&listener))?;
        Ok(listener)
    });
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServiceError::AdminTaken { address },
        _ => ServiceError::AdminListen { address, source },
    })
}

/// The audit log, and its thread.
type AuditLogAndThread = (AuditLog, std::thread::JoinHandle<()>);

fn start_audit_log(
    path: &Path,
    callers: Option<Callers>,
    node: &Node,
) -> Result<AuditLogAndThread, ServiceError> {
    let metrics = node.shards().iter().map(|shard| Arc::clone(&shard.metrics));
    let refusals = callers.as_ref().map(Callers::take_refusals).unwrap_or_default();
    AuditLog::start(path, callers, refusals.into_iter().zip(metrics).collect())
        .map_err(|source| ServiceError::AuditLog { path: path.to_owned(), source })
}

fn view_of(node: &Node, max_staleness_ms: u32) -> View {
    let mut view = View::new(node.shards().to_vec(), node.clock(), node.driver().kind.to_string());
    view.driver_note = node.driver().fallback.clone();
    view.addresses = node.addresses().clone();
    view.feed = Some(Arc::clone(node.feed().status()));
    view.checkpoints = node.checkpoints();
    view.tls = node.tls().cloned();
    view.audit = node.audit();
    view.max_staleness_ms = max_staleness_ms;
    view
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// A caller of the admin port whose host had vanished held its connection until it was one too many.
    #[test]
    fn callers_of_the_admin_port_are_asked_whether_they_are_there() {
        let listener = bind_admin(SocketAddr::from(([127, 0, 0, 1], 0)), &Inherited::default()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(SockRef::from(&accepted).keepalive().unwrap());
        assert!(SockRef::from(&accepted).tcp_user_timeout().unwrap().is_some());
    }
}
