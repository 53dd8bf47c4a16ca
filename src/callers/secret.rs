//! Where secrets come from: a file, the environment, or systemd's credentials. Never a flag, which every process of the host can
//! read, nor a configuration file, which is shown around.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{env, fmt, io};

use crate::limits::{CONFIG_READ, SECRET_BYTES_MAX};

/// The folder in which systemd puts what `LoadCredential=` names.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A secret. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }

    /// What nobody else is to see.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The same as text.
    pub fn reveal_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretSource {
    /// `file:PATH`.
    File(PathBuf),
    /// `env:NAME`.
    Environment(String),
    /// `credential:NAME`.
    Credential(String),
}

/// Why there is no secret. Says where, and never what.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No such file, no permission, or others can get at it.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is empty, too long, or no text where one is expected.
    #[error("{place}: expected one line of 1 to {SECRET_BYTES_MAX} bytes")]
    Shape {
        /// Which.
        place: String,
    },
    /// No such variable.
    #[error("{0}: this variable is not in the environment")]
    NoVariable(String),
    /// systemd has given no credentials.
    #[error(
        "credential:{0}: there is no {CREDENTIALS} in the environment: LoadCredential={0}:PATH in the unit makes one"
    )]
    NoCredentials(String),
}

impl SecretSource {
    /// The secret, without the end of its line.
    ///
    /// # Errors
    /// Where it is not there, or others can get at it.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let bytes = match self {
            SecretSource::File(path) => read_file(path)?,
            SecretSource::Environment(name) => {
                let value = env::var_os(name).ok_or_else(|| SecretError::NoVariable(name.clone()))?;
                value.into_encoded_bytes()
            }
            SecretSource::Credential(name) => {
                let folder =
                    env::var_os(CREDENTIALS).ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                read_file(&Path::new(&folder).join(name))?
            }
        };
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.len() > SECRET_BYTES_MAX || line.contains(&b'\n') {
            return Err(SecretError::Shape { place: self.to_string() });
        }
        Ok(Secret(line.to_vec()))
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, SecretError> {
    let most = SECRET_BYTES_MAX + "\r\n".len();
    let bytes = florin_input::read_secret(path, most, CONFIG_READ);
    bytes.map_err(|source| SecretError::Unreadable { path: path.to_owned(), source })
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::File(path) => write!(f, "file:{}", path.display()),
            SecretSource::Environment(name) => write!(f, "env:{name}"),
            SecretSource::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

impl FromStr for SecretSource {
    type Err = &'static str;

    /// What came is not repeated: it may be the secret itself.
    fn from_str(text: &str) -> Result<SecretSource, &'static str> {
        let expected =
            "expected where the secret is, and not the secret: file:PATH, env:NAME or credential:NAME";
        match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Ok(SecretSource::File(path.into())),
            Some(("file", _)) => Err("expected an absolute path in file:PATH"),
            Some(("env", name)) if !name.is_empty() => Ok(SecretSource::Environment(name.to_owned())),
            Some(("credential", name)) if !name.is_empty() && !name.contains('/') => {
                Ok(SecretSource::Credential(name.to_owned()))
            }
            _ => Err(expected),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn written(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> SecretSource {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        SecretSource::File(path)
    }

    #[test]
    fn a_secret_is_one_line_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let source = written(folder.path(), "key", b"it is one\r\n", 0o600);
        let secret = source.read().unwrap();
        assert_eq!(secret.reveal(), b"it is one");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        // As systemd's credentials are.
        assert!(written(folder.path(), "systemd", b"it is one", 0o440).read().is_ok());
        for mode in [0o604, 0o620, 0o666, 0o602] {
            let error = written(folder.path(), "open", b"planted", mode).read().unwrap_err().to_string();
            assert!(error.contains("chmod") && !error.contains("planted"), "{error}");
        }
        for (name, bytes) in [
            ("empty", &b""[..]),
            ("line", b"\n"),
            ("two", b"planted\nlines\n"),
            ("long", &[b'x'; SECRET_BYTES_MAX + 1]),
        ] {
            let error = written(folder.path(), name, bytes, 0o600).read().unwrap_err().to_string();
            assert!(error.contains("one line") && !error.contains("planted"), "{error}");
        }
        assert!(SecretSource::File(folder.path().to_owned()).read().is_err());
    }

    #[test]
    fn where_a_secret_lies_is_said_and_a_secret_in_its_place_is_not_repeated() {
        for text in ["file:/etc/florin/key", "env:FLORIN_KEY", "credential:key"] {
            assert_eq!(text.parse::<SecretSource>().unwrap().to_string(), text);
        }
        for text in ["planted", "file:relative", "env:", "credential:", "credential:a/b", "planted:x"] {
            let error = text.parse::<SecretSource>().unwrap_err();
            assert!(error.contains("expected") && !error.contains("planted"), "{error}");
        }
        let missing = SecretSource::Environment("FLORIN_NO_SUCH_VARIABLE".to_owned()).read().unwrap_err();
        assert!(missing.to_string().contains("FLORIN_NO_SUCH_VARIABLE"));
    }
}
