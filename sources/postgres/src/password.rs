//! Where a password comes from: `passfile=`, PGPASSWORD, PGPASSFILE, `~/.pgpass`, in this order, each as libpq reads it.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use crate::address::{Address, Host};
use crate::limits::{PASSWORD_FILE_BYTES_MAX, PASSWORD_FILE_READ};

/// Why a file of passwords cannot be used. No password is in it.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It cannot be read.
    #[error("cannot read the passwords in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is no file of passwords.
    #[error("{} is no file of passwords: expected a text of at most {PASSWORD_FILE_BYTES_MAX} bytes with lines HOST:PORT:DATABASE:USER:PASSWORD", path.display())]
    Text {
        /// The file.
        path: PathBuf,
    },
    /// It has no line for this login, and was named for it.
    #[error("{} has no password for {login}: expected a line HOST:PORT:DATABASE:USER:PASSWORD, each part but the last as it is or *", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Host, port, database and user.
        login: String,
    },
}

/// The password of an address's user at one of its hosts, where there is one. A connection needs none where the server trusts it or where a
/// certificate says who it is.
///
/// # Errors
/// Why a file that was named cannot be used.
pub fn find(address: &Address, host: &Host) -> Result<Option<Vec<u8>>, PasswordError> {
    if let Some(path) = &address.password_file {
        let missing = || PasswordError::Missing { path: path.clone(), login: login(address, host).join(":") };
        return in_file(path, address, host)?.ok_or_else(missing).map(Some);
    }
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(password) = set("PGPASSWORD") {
        return Ok(Some(password.into_encoded_bytes()));
    }
    if let Some(path) = set("PGPASSFILE") {
        return in_file(Path::new(&path), address, host);
    }
    let of_user = set("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
    match of_user {
        Some(path) if path.exists() => in_file(&path, address, host),
        _ => Ok(None),
    }
}

fn in_file(path: &Path, address: &Address, host: &Host) -> Result<Option<Vec<u8>>, PasswordError> {
    let read = |source| PasswordError::Read { path: path.to_owned(), source };
    let text = || PasswordError::Text { path: path.to_owned() };
    let lines = florin_input::read_secret_text(path, PASSWORD_FILE_BYTES_MAX, PASSWORD_FILE_READ);
    let lines = lines.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge | io::ErrorKind::IsADirectory => text(),
        _ => read(error),
    })?;
    let wanted = login(address, host);
    Ok(lines.lines().find_map(|line| password_in(line, &wanted)).map(String::into_bytes))
}

/// Host, port, database and user. A server behind a unix socket is called localhost here, as libpq does.
fn login(address: &Address, host: &Host) -> [String; 4] {
    let name = match host {
        Host::Tcp(host, _) => host.clone(),
        Host::Unix(..) => "localhost".to_owned(),
    };
    [name, host.port().to_string(), address.database.clone(), address.user.clone()]
}

/// The password of a line that is for `wanted`.
fn password_in(line: &str, wanted: &[String; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut parts = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' if parts.len() < 5 => parts.push(String::new()),
            '\\' => parts.last_mut()?.extend(characters.next()),
            _ => parts.last_mut()?.push(character),
        }
    }
    let password = if parts.len() == 5 { parts.pop()? } else { return None };
    let fits = parts.iter().zip(wanted).all(|(part, wanted)| part == "*" || part == wanted);
    fits.then_some(password)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn address(file: &Path) -> Address {
        format!("postgres://florin@db:5433/money?passfile={}", file.display()).parse().unwrap()
    }

    fn found(file: &Path) -> Result<Option<Vec<u8>>, PasswordError> {
        let address = address(file);
        find(&address, &address.hosts[0])
    }

    fn written(lines: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), lines).unwrap();
        fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        for (lines, password) in [
            ("db:5433:money:florin:secret", "secret"),
            ("# a comment\n\nother:*:*:*:no\n*:*:*:florin:with:colons\\:and\\\\", "with:colons:and\\"),
            ("db:5433:money:florin:first\ndb:5433:money:florin:second", "first"),
        ] {
            let file = written(lines, 0o600);
            assert_eq!(found(file.path()).unwrap().unwrap(), password.as_bytes(), "{lines}");
        }
    }

    /// Each cause has a sentence of its own, and none of them the password.
    #[test]
    fn a_file_that_cannot_be_used_says_why() {
        let lines = "db:5433:money:somebody:geheim";
        let exposed = written(lines, 0o644);
        let missing = written(lines, 0o600);
        let nowhere = Path::new("/nowhere/pgpass");
        for (path, says) in [
            (exposed.path(), "has the mode 644"),
            (missing.path(), "has no password for db:5433:money:florin"),
            (nowhere, "cannot read the passwords"),
            (Path::new("/"), "has the mode"),
        ] {
            let error = found(path).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("geheim"), "{error}");
        }
    }
}
