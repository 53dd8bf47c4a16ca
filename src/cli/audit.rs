//! `florin audit`: one whole pass over a ledger, against what a running node answers over its ordinary port.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use florin_client::{Address, Client, Error, Freshness, Origin, UserId, Version, WindowMask};
use florin_record::LedgerError;
use tokio::runtime::Runtime;

use super::caller::CallerArgs;
use super::output::{rfc3339, say};
use super::settings::{Settings, SettingsError};
use crate::auditor::compare::{Difference, Outcome, Served, compare};
use crate::auditor::history::{ALL, History, read_piece};
use crate::callers::SecretError;
use crate::follower::{Scan, SourceError};
use crate::limits::{
    AUDIT_COMMAND_LOOKS, AUDIT_COMMAND_PAUSE, AUDIT_EVIDENCE_MAX, AUDIT_HOUR_SLACK_US, GET_DEADLINE,
};
use crate::numbers::grouped;
use crate::shard::audit::{Below, Standing};
use crate::sources::{Ledger, LedgerAddress};

/// What `florin audit --help` ends with.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
   0  every account of the ledger is answered as its rows amount to, or says itself that it is incomplete
   1  one is not, the node or the ledger could not be asked, or there was nothing to compare
   2  flags or configuration
  15 to 21  the ledger cannot be opened, as of florin serve";

/// Flags of `florin audit`.
#[derive(Args, Debug)]
pub struct AuditArgs {
    /// The ledger [default: that of --config, or sqlite:florin.db]
    #[arg(long, value_name = "sqlite:PATH|postgres://…")]
    ledger: Option<LedgerAddress>,
    /// A configuration of florin serve, for its ledger, [ledger.columns] and [ledger.kinds]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node: any of its ports, by TLS where florins:// is before it, or its unix socket
    #[arg(long, value_name = "HOST:PORT|florins://HOST:PORT|unix:PATH", default_value = "127.0.0.1:7400")]
    node: Address,
    #[command(flatten)]
    caller: CallerArgs,
}

/// Why nothing is proven.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The configuration.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger cannot be read by users.
    #[error("this ledger cannot be compared with: {0}")]
    Unable(String),
    /// The ledger could not be read.
    #[error("cannot read the ledger: {0}")]
    Read(#[from] SourceError),
    /// The node.
    #[error("the node cannot be asked: {0}")]
    Node(#[from] Error),
    /// No token where there should be one.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// No runtime for the client.
    #[error("cannot start the client: {0}")]
    Runtime(#[from] std::io::Error),
    /// Nothing was compared.
    #[error("nothing is proven: the ledger has no account that could be compared")]
    Nothing,
    /// Some accounts are answered otherwise.
    #[error(
        "{differences} of {accounts} accounts are answered otherwise than the ledger's rows amount to; see above"
    )]
    Differs {
        /// So many.
        differences: u64,
        /// Of so many.
        accounts: u64,
    },
}

impl AuditError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            AuditError::Settings(error) => error.exit_code(),
            AuditError::Ledger(error) => error.exit_code,
            _ => 1,
        }
    }
}

/// Runs `florin audit`.
pub(super) fn run(args: &AuditArgs) -> Result<(), AuditError> {
    let file = args.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let address =
        Settings { ledger: args.ledger.clone().or(file.ledger.clone()), ..file }.ledger_address()?;
    let scan = Ledger::open(&address)?.scan().map_err(AuditError::Unable)?;
    let node = args.caller.asking(&args.node)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(
        node.client()
            .client_name(concat!("florin-audit/", env!("CARGO_PKG_VERSION")))
            .deadline(GET_DEADLINE)
            .connect(node.address.clone()),
    )?;
    let mut audit = Audit { scan, runtime, client, seen: Seen::default() };
    audit.run()?;
    audit.seen.verdict(&address.to_string(), &args.node.to_string())
}

struct Audit {
    scan: Box<dyn Scan>,
    runtime: Runtime,
    client: Client,
    seen: Seen,
}

/// What was compared.
#[derive(Default)]
struct Seen {
    equal: u64,
    incomplete: u64,
    without_windows: u64,
    /// Of the accounts that are equal.
    rows: u64,
    differences: u64,
    /// The earliest and the latest time of the answers, µs since 1970.
    as_of: Option<(i64, i64)>,
}

/// What the node answers about a user.
struct Answered {
    standing: Standing,
    version: Version,
    balance: Vec<u8>,
    statistics: Vec<u8>,
    as_of_us: i64,
}

impl Audit {
    fn run(&mut self) -> Result<(), AuditError> {
        let mut from = Below::NOBODY;
        while let Below::User(user) = from {
            let piece = read_piece(&mut *self.scan, user, wall_us())?;
            for history in piece.histories {
                self.compare(history)?;
            }
            from = piece.below;
        }
        Ok(())
    }

    /// Compares an account; asks again where it moves meanwhile.
    fn compare(&mut self, mut history: History) -> Result<(), AuditError> {
        let user = history.user();
        let until = Instant::now() + AUDIT_COMMAND_PAUSE * AUDIT_COMMAND_LOOKS;
        loop {
            let answered = self.ask(user, history.version())?;
            if answered.version > history.version() {
                history.read_on(&mut *self.scan, answered.version)?;
            }
            let outcome = answered.compare(&history);
            let Outcome::Different(difference) = outcome else {
                self.seen.note(&outcome, &history, &answered);
                return Ok(());
            };
            if Instant::now() > until {
                self.seen.tell(user, &difference);
                return Ok(());
            }
            std::thread::sleep(AUDIT_COMMAND_PAUSE);
            history = History::read(&mut *self.scan, user, ALL, wall_us())?;
        }
    }

    /// Asks for balance and statistics at one version, `version` at least.
    fn ask(&self, user: UserId, version: Version) -> Result<Answered, AuditError> {
        let freshness = Freshness::at_least(version).waiting(Duration::from_secs(1));
        let client = self.client.with_freshness(freshness);
        let asked = self.runtime.block_on(async {
            let balance = client.get_balance(user).await?;
            let statistics = client.get_statistics(user, WindowMask::ALL).await?;
            Ok::<_, Error>((balance, statistics))
        });
        let nobody = |standing| Answered {
            standing,
            version: Version(0),
            balance: Vec::new(),
            statistics: Vec::new(),
            as_of_us: 0,
        };
        let (balance, statistics) = match asked {
            Ok(asked) => asked,
            Err(Error::NotFound(_)) => return Ok(nobody(Standing::Absent)),
            // It does not come to the ledger's version: what it has is different from that.
            Err(Error::Stale(_)) => {
                return self.ask_anything(user).map(|answer| answer.unwrap_or(nobody(Standing::Absent)));
            }
            Err(error) => return Err(error.into()),
        };
        let (of_balance, of_statistics): (Origin, Origin) = (balance.origin(), statistics.origin());
        let standing = match (of_balance.is_quarantined(), of_statistics.is_quarantined()) {
            (false, false) => Standing::Whole,
            (false, true) => Standing::WindowsUnknown,
            (true, _) => Standing::Quarantined,
        };
        Ok(Answered {
            standing,
            version: balance.version(),
            // One that moved between the two questions is asked for again.
            statistics: if statistics.version() == balance.version() {
                statistics.into_bytes().to_vec()
            } else {
                Vec::new()
            },
            balance: balance.into_bytes().to_vec(),
            as_of_us: of_statistics.as_of_us,
        })
    }

    /// Asks for a balance, however old.
    fn ask_anything(&self, user: UserId) -> Result<Option<Answered>, AuditError> {
        match self.runtime.block_on(self.client.get_balance(user)) {
            Ok(balance) => Ok(Some(Answered {
                standing: if balance.origin().is_quarantined() {
                    Standing::Quarantined
                } else {
                    Standing::Whole
                },
                version: balance.version(),
                as_of_us: balance.origin().as_of_us,
                balance: balance.into_bytes().to_vec(),
                statistics: Vec::new(),
            })),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Answered {
    /// Windows are those of the node's clock when it answered: the time that the answer bears, or a little later.
    fn compare(&self, history: &History) -> Outcome {
        let at = |wall_us| {
            let Answered { standing, version, balance, statistics, .. } = self;
            compare(history, &Served { standing: *standing, version: *version, balance, statistics, wall_us })
        };
        match at(self.as_of_us) {
            Outcome::Different(difference) if difference.what == "statistics" => {
                match at(self.as_of_us + AUDIT_HOUR_SLACK_US) {
                    Outcome::Different(_) => Outcome::Different(difference),
                    outcome => outcome,
                }
            }
            outcome => outcome,
        }
    }
}

impl Seen {
    fn note(&mut self, outcome: &Outcome, history: &History, answered: &Answered) {
        match outcome {
            Outcome::Equal => {
                self.equal += 1;
                self.rows += history.version().0;
            }
            Outcome::WindowsUnknown => self.without_windows += 1,
            Outcome::Quarantined => self.incomplete += 1,
            Outcome::Nobody | Outcome::Different(_) => return,
        }
        let at = answered.as_of_us;
        self.as_of = Some(self.as_of.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
    }

    fn tell(&mut self, user: UserId, difference: &Difference) {
        self.differences += 1;
        if self.differences <= AUDIT_EVIDENCE_MAX as u64 {
            let Difference { what, version, served, ledger } = difference;
            say(&format!(
                "user {user}, version {version}, {what}:\n  answered {served}\n  ledger   {ledger}"
            ));
        }
    }

    /// What all of it says, and what that rests on.
    fn verdict(&self, ledger: &str, node: &str) -> Result<(), AuditError> {
        let accounts = self.equal + self.without_windows + self.incomplete + self.differences;
        if self.differences > 0 {
            return Err(AuditError::Differs { differences: self.differences, accounts });
        }
        let Some((first, last)) = self.as_of.filter(|_| self.equal > 0) else {
            return Err(AuditError::Nothing);
        };
        let mut words = format!(
            "{} accounts are answered by {node} to the byte as {} rows of {ledger} amount to: balance and all windows, each at one \
             version, as of {} to {}.",
            grouped(self.equal),
            grouped(self.rows),
            rfc3339(first),
            rfc3339(last)
        );
        if self.incomplete > 0 {
            words += &format!(
                " {} more say themselves that they are incomplete, and were not compared.",
                grouped(self.incomplete)
            );
        }
        if self.without_windows > 0 {
            words += &format!(
                " Of {} more the balance alone was compared, for the node's clock has left their windows.",
                grouped(self.without_windows)
            );
        }
        words += " Accounts that the node has and the ledger does not were not looked for: florin serve --audit does that.";
        say(&words);
        Ok(())
    }
}

fn wall_us() -> i64 {
    crate::clock::Clock::new(None).now().wall_us
}
