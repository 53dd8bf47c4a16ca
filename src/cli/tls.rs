//! `florin tls`: a private authority and certificates of it, for trying TLS out or where there is no other authority.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::output::say;
use crate::tls::authority::{Authority, AuthorityError, Pair};

/// Certificates.
#[derive(Subcommand, Debug)]
pub enum TlsCommand {
    /// Make a private authority, and of it a certificate for a node and one for each caller; nothing is overwritten
    Init(InitArgs),
}

/// What `florin tls init` takes.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// Where the files go; made where it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Names and addresses by which callers reach the node [default: localhost, this host's name, and its addresses]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    name: Vec<String>,
    /// Callers' names, URIs: principals.toml says what each may ask. Its files are called as the last part of the URI
    #[arg(long, value_name = "URI,…", value_delimiter = ',', default_value = "spiffe://florin.local/caller")]
    caller: Vec<String>,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsCommandError {
    /// A file is there already, or cannot be made.
    #[error("{}: {source}; choose another folder, for nothing is ever overwritten", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may put their own files in the place of these.
    #[error(
        "{} has the mode {mode:03o} and belongs to user {owner}: expected a folder of root's or of this process's user, which nobody \
         else may write (chmod go-w), or one that is not there yet", folder.display()
    )]
    Exposed {
        /// Which.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
    /// A name that no certificate can have.
    #[error("{0}; expected DNS names and IP addresses (--name), and a URI (--caller)")]
    Authority(#[from] AuthorityError),
    /// A caller without a name by which it could be known, or its files called.
    #[error(
        "--caller: expected a URI like spiffe://example.org/team, whose last part is a file's name (letters, digits, - and _), neither ca \
         nor node, and nobody else's; found {0:?}"
    )]
    Caller(String),
}

/// Runs `florin tls`.
pub(super) fn run(command: &TlsCommand) -> Result<(), TlsCommandError> {
    let TlsCommand::Init(args) = command;
    init(args)
}

fn init(args: &InitArgs) -> Result<(), TlsCommandError> {
    let callers = files_of(&args.caller)?;
    let names = if args.name.is_empty() { found_names() } else { args.name.clone() };
    let authority = Authority::new("florin, a private authority")?;
    let mut pairs = vec![("ca", authority.pair()), ("node", authority.node(&names)?)];
    for &(name, uri) in &callers {
        pairs.push((name, authority.caller(uri)?));
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsCommandError::File { path, source }
    };
    let folder = &args.folder;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
    let found = fs::metadata(folder).map_err(failed(folder))?;
    if !florin_input::is_own_alone(&found) {
        return Err(TlsCommandError::Exposed {
            folder: folder.clone(),
            mode: found.mode() & 0o7777,
            owner: found.uid(),
        });
    }
    let files = pairs.iter().flat_map(|(name, Pair { certificate, key })| {
        [(folder.join(format!("{name}.crt")), certificate), (folder.join(format!("{name}.key")), key)]
    });
    let files: Vec<_> = files.collect();
    // All or none, as far as that can be seen before.
    for (path, _) in &files {
        if fs::symlink_metadata(path).is_ok() {
            return Err(failed(path)(io::ErrorKind::AlreadyExists.into()));
        }
    }
    for (path, text) in &files {
        write_new(path, text).map_err(failed(path))?;
    }
    say(&told(folder, &names, &callers));
    Ok(())
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Each caller's files' name, and its own.
fn files_of(uris: &[String]) -> Result<Vec<(&str, &str)>, TlsCommandError> {
    let mut files: Vec<(&str, &str)> = Vec::new();
    for uri in uris {
        let name = uri.rsplit_once('/').map_or("", |(_, name)| name);
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let is_taken = ["ca", "node"].contains(&name) || files.iter().any(|(other, _)| *other == name);
        if !uri.contains("://") || !is_name || is_taken {
            return Err(TlsCommandError::Caller(uri.clone()));
        }
        files.push((name, uri));
    }
    Ok(files)
}

fn told(folder: &Path, names: &[String], callers: &[(&str, &str)]) -> String {
    let at = folder.display();
    let of_callers: Vec<String> =
        callers.iter().map(|(name, uri)| format!("{name}.crt and {name}.key for {uri}")).collect();
    let first = callers.first().map_or("caller", |(name, _)| name);
    format!(
        "{at}: an authority (ca.crt, ca.key), a certificate for a node that is called {} (node.crt, node.key), and of callers \
         {}, for a year. Keep ca.key away from the node.\n\n\
         florin serve --tls-listen 127.0.0.1:7500 --tls-cert {at}/node.crt --tls-key {at}/node.key --tls-client-ca {at}/ca.crt\n\
         curl --cacert {at}/ca.crt --cert {at}/{first}.crt --key {at}/{first}.key https://localhost:7500/v1/users/1/balance",
        names.join(", "),
        of_callers.join(", ")
    )
}

/// By which this host is reached: its name, the loopback, and the addresses from which it reaches others.
fn found_names() -> Vec<String> {
    let mut names = BTreeSet::from(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    names.extend(Some(host).filter(|host| is_name(host)));
    names
        .extend([("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")].iter().filter_map(own_address));
    names.into_iter().collect()
}

/// Where packets to `elsewhere` would come from. None is sent.
fn own_address((any, elsewhere): &(&str, &str)) -> Option<String> {
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(elsewhere).ok()?;
    let address: IpAddr = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then(|| address.to_string())
}

/// What a node takes of what is made in a folder, for tests.
#[cfg(test)]
pub(super) fn made(folder: &Path) -> crate::tls::TlsFiles {
    let folder = folder.join("made");
    let caller = vec!["spiffe://a/b".to_owned()];
    init(&InitArgs { folder: folder.clone(), name: Vec::new(), caller }).unwrap();
    let path = |name| folder.join(name);
    crate::tls::TlsFiles {
        certificate: path("node.crt"),
        key: path("node.key"),
        client_ca: Some(path("ca.crt")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tls::{Identity, TlsFiles};

    /// Keys were made in a folder of anybody's, who could put others in their place.
    #[test]
    fn a_folder_that_others_may_write_gets_no_keys() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        let args =
            InitArgs { folder: shared.clone(), name: Vec::new(), caller: vec!["spiffe://a/b".to_owned()] };
        for mode in [0o777, 0o1777, 0o775] {
            fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
            let refusal = init(&args).unwrap_err().to_string();
            assert!(
                refusal.contains(&format!("the mode {mode:o}")) && refusal.contains("chmod go-w"),
                "{refusal}"
            );
        }
        assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
        init(&args).unwrap();
    }

    #[test]
    fn what_is_made_works_is_nobody_elses_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let caller = ["spiffe://a/b", "spiffe://a/team-c"].map(str::to_owned).to_vec();
        let args = InitArgs { folder: folder.clone(), name: Vec::new(), caller };
        init(&args).unwrap();
        for name in ["ca", "node", "b", "team-c"] {
            for kind in ["crt", "key"] {
                let file = fs::metadata(folder.join(format!("{name}.{kind}"))).unwrap();
                assert_eq!(file.permissions().mode() & 0o777, 0o600);
            }
        }
        let path = |name| folder.join(name);
        let files = TlsFiles {
            certificate: path("node.crt"),
            key: path("node.key"),
            client_ca: Some(path("ca.crt")),
        };
        let days = Identity::read(&files).unwrap().days_left(jiff::Timestamp::now().as_second());
        assert!((360.0..367.0).contains(&days), "{days}");
        let before = fs::read(path("ca.key")).unwrap();
        fs::remove_file(path("b.key")).unwrap();
        let refusal = init(&args).unwrap_err().to_string();
        assert!(refusal.contains("ca.crt") && refusal.contains("overwritten"), "{refusal}");
        assert!(fs::read(path("ca.key")).unwrap() == before && !path("b.key").exists());
        assert!(found_names().contains(&"localhost".to_owned()));
    }

    #[test]
    fn a_name_that_none_can_have_is_told() {
        let folder = tempfile::tempdir().unwrap().path().join("new");
        let init = |name: &str, caller: &str| {
            let (name, caller) = (vec![name.to_owned()], caller.split(',').map(str::to_owned).collect());
            init(&InitArgs { folder: folder.clone(), name, caller }).unwrap_err().to_string()
        };
        assert!(init("größe", "spiffe://a/b").contains("--name"));
        for wrong in ["wallet", "spiffe://a/", "spiffe://a/ca", "spiffe://a/b,spiffe://c/b", "spiffe://a/b.c"]
        {
            assert!(init("a", wrong).contains("--caller"), "{wrong}");
        }
        assert!(!folder.exists());
    }
}
