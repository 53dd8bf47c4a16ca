//! SIGHUP, which `systemctl reload florin` sends: the configuration is read again. What is logged can change while a node
//! runs, the names by which the admin port may be asked, and what callers by TLS are shown. Everything else is fixed when threads, sockets and memory are
//! made; the log names each setting that differs.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::log::LogControl;
use super::service::ServiceError;
use super::settings::{HostNames, LogFilter, RELOADABLE, Settings, SettingsError};
use super::systemd::tell_reloading;
use crate::admin::Hosts;
use crate::callers::{AuditLog, Callers};
use crate::node::Control;
use crate::threads::Vital;
use crate::tls::Identities;

/// What a reload compares the file with.
pub(super) struct Reload {
    /// None = there is no file, and nothing to read again.
    pub(super) config: Option<PathBuf>,
    /// Which win over the file.
    pub(super) flags: Settings,
    /// What runs now.
    pub(super) running: Settings,
    /// What is logged.
    pub(super) log: LogControl,
    /// By which names the admin port may be asked.
    pub(super) hosts: Hosts,
    /// Who may ask what; none = everybody everything.
    pub(super) callers: Option<Callers>,
    /// Who was refused.
    pub(super) audit_log: Option<AuditLog>,
    /// Wakes the shards.
    pub(super) control: Control,
    /// What callers by TLS are shown.
    pub(super) identities: Option<Arc<Identities>>,
}

impl Reload {
    /// Waits for SIGHUP and reloads, again and again.
    pub(super) async fn on_hangup(mut self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            Vital::Reload.at_work();
            tell_reloading(|| {
                self.read_certificates();
                self.read_configuration();
                self.reload_callers();
                self.reopen_audit_log();
            });
        }
    }

    /// Old connections go on with what they were shown.
    fn read_certificates(&self) {
        let Some(identities) = &self.identities else { return };
        match identities.reload() {
            Ok(identity) => {
                let now_s = jiff::Timestamp::now().as_second();
                let days = identity.days_left(now_s);
                info!(
                    "SIGHUP: new callers by TLS are shown the certificate of now, which ends in {days:.1} days"
                );
                if let Some(out_of_time) = identity.is_out_of_time(now_s) {
                    warn!("{out_of_time}");
                }
            }
            Err(error) => error!("SIGHUP: callers by TLS are shown what they were shown before: {error}"),
        }
    }

    fn read_configuration(&mut self) {
        match self.read() {
            Ok(Some(wanted)) => self.take_over(&wanted),
            // Each of them has a line of its own.
            Ok(None) if self.identities.is_some() || self.callers.is_some() || self.audit_log.is_some() => {}
            Ok(None) => {
                warn!("SIGHUP: florin was started without --config, so there is nothing to reload")
            }
            Err(error) => error!("SIGHUP: everything stays as it is: {error}"),
        }
    }

    fn reload_callers(&self) {
        let Some(callers) = &self.callers else { return };
        match callers.reload() {
            Ok(()) => {
                self.control.wake();
                let principals = callers.current().all().count();
                info!(principals, "SIGHUP: the principals were read again");
            }
            Err(error) => error!("SIGHUP: the principals stay as they are: {error}"),
        }
    }

    /// Its thread does it before it writes again; where the file cannot be opened, that one says so.
    fn reopen_audit_log(&self) {
        let Some(audit_log) = &self.audit_log else { return };
        audit_log.reopen();
        info!("SIGHUP: the audit log is opened anew");
    }

    fn read(&self) -> Result<Option<Settings>, SettingsError> {
        let Some(path) = &self.config else { return Ok(None) };
        let wanted = self.flags.clone().or(Settings::read(path)?).filled();
        wanted.clone().effective()?;
        Ok(Some(wanted))
    }

    fn take_over(&mut self, wanted: &Settings) {
        let (reloaded, changed): (Vec<_>, Vec<_>) =
            wanted.changed_keys(&self.running).into_iter().partition(|key| RELOADABLE.contains(key));
        if !reloaded.is_empty() {
            if let Some(LogFilter(filter)) = &wanted.log {
                self.log.set(filter);
            }
            self.hosts.set(HostNames::hosts(wanted.admin_host.clone()));
            self.running.log.clone_from(&wanted.log);
            self.running.admin_host.clone_from(&wanted.admin_host);
            let said = reloaded.iter().map(|&key| match &wanted.log {
                Some(LogFilter(filter)) if key == "log" => format!("log={filter:?}"),
                _ => key.to_owned(),
            });
            info!("SIGHUP: reloaded {}", said.collect::<Vec<_>>().join(", "));
        } else if changed.is_empty() {
            info!("SIGHUP: the configuration has not changed");
        }
        if !changed.is_empty() {
            warn!("SIGHUP: these have changed and take a restart: {}", changed.join(", "));
        }
    }
}

/// From now on a SIGHUP no longer ends the process.
pub(super) fn hangups() -> Result<Signal, ServiceError> {
    signal(SignalKind::hangup()).map_err(ServiceError::ControlPlane)
}
