//! Where a password comes from: the file that `passfile=` names, or else KAFKA_PASSWORD. Read anew for each session, so that one that
//! was changed is found.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use crate::address::Login;
use crate::limits::{PASSWORD_BYTES_MAX, PASSWORD_READ};

/// Where it is, where no file is named.
pub const VARIABLE: &str = "KAFKA_PASSWORD";

/// Why there is no password. None is in it.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("cannot read the password in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is not one line.
    #[error("{} has no password: expected one line, and nothing but the password in it", path.display())]
    Line {
        /// The file.
        path: PathBuf,
    },
    /// There is none.
    #[error("user {user} has no password: set {VARIABLE}, or name a passfile=")]
    Missing {
        /// Whose.
        user: String,
    },
}

/// Finds it.
///
/// # Errors
/// Why not.
pub fn find(login: &Login) -> Result<String, PasswordError> {
    match &login.password_file {
        Some(path) => in_file(path),
        None => env::var(VARIABLE)
            .ok()
            .filter(|password| !password.is_empty())
            .ok_or_else(|| PasswordError::Missing { user: login.user.clone() }),
    }
}

fn in_file(path: &Path) -> Result<String, PasswordError> {
    let read = |source| PasswordError::Read { path: path.to_owned(), source };
    let text = florin_input::read_secret_text(path, PASSWORD_BYTES_MAX, PASSWORD_READ).map_err(read)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    if line.is_empty() || line.contains(['\n', '\r', '\0']) {
        return Err(PasswordError::Line { path: path.to_owned() });
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::address::Mechanism;

    fn found(text: &str, mode: u32) -> Result<String, PasswordError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        let password_file = Some(file.path().to_owned());
        find(&Login { user: "florin".to_owned(), mechanism: Mechanism::Plain, password_file })
    }

    #[test]
    fn a_password_is_a_line_that_others_may_not_read() {
        assert_eq!(found("ge heim\n", 0o600).unwrap(), "ge heim");
        assert_eq!(found("geheim", 0o640).unwrap(), "geheim");
        for (text, mode, says) in [
            ("geheim\n", 0o644, "has the mode 644"),
            ("geheim\ngeheim\n", 0o600, "expected one line"),
            ("\n", 0o600, "expected one line"),
            (&"geheim".repeat(1_000), 0o600, "cannot read the password"),
        ] {
            let error = found(text, mode).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("geheim"), "{error}");
        }
    }
}
