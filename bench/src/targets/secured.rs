//! What a server that the bench starts lets callers in by: certificates of an authority of its own, and a file of principals.

use std::{fs, io, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};

use florin::{callers::Token, tls::authority::Authority};

use super::{TargetError, TargetSpec, operation, process};
use crate::{generator::Access, limits::QUOTA_BURSTS_PER_S};

/// See the module.
pub(super) struct Secured {
    /// For `florin serve`.
    pub(super) flags: Vec<String>,
    /// The any-shard port by TLS.
    pub(super) listen: Option<SocketAddr>,
    /// What the load's callers are let in by.
    pub(super) access: Access,
    /// The options by which one whose requests a second are bounded is let in.
    pub(super) bounded: Option<String>,
}

impl Secured {
    /// Writes into `folder` what the server takes.
    pub(super) fn make(spec: &TargetSpec, folder: &Path) -> Result<Secured, TargetError> {
        let (flags, access) = (Vec::new(), Access::default());
        let mut secured = Secured { flags, listen: None, access, bounded: None };
        if spec.tls.is_some() {
            secured.certify(folder).map_err(operation("making certificates"))?;
            let listen = process::free_address()?;
            secured.flag("--tls-listen", &listen.to_string());
            secured.flag("--tls-shard-listen", "127.0.0.1:0");
            secured.listen = Some(listen);
            secured.access = secured.access.by_tls(&folder.join(AUTHORITY))?;
        }
        if spec.token.is_some() || spec.bounded_per_s.is_some() {
            secured.name(spec.bounded_per_s, folder).map_err(operation("writing principals"))?;
        }
        Ok(secured)
    }

    fn flag(&mut self, name: &str, value: &str) {
        self.flags.extend([name.to_owned(), value.to_owned()]);
    }

    fn certify(&mut self, folder: &Path) -> io::Result<()> {
        let authority = Authority::new("florin-bench").map_err(io::Error::other)?;
        let pair = authority.node(&["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
        let files = [
            (AUTHORITY, "", &authority.pair().certificate),
            ("node.crt", "--tls-cert", &pair.certificate),
            ("node.key", "--tls-key", &pair.key),
        ];
        for (name, flag, text) in files {
            let path = folder.join(name);
            write(&path, text)?;
            if !flag.is_empty() {
                self.flag(flag, &path.display().to_string());
            }
        }
        Ok(())
    }

    /// The load's callers are one principal, and whoever is bounded another.
    fn name(&mut self, bounded_per_s: Option<u32>, folder: &Path) -> io::Result<()> {
        let (of_load, of_bounded) = (Token::random(), Token::random());
        let entry = |name: &str, token: &Token| {
            let may = "may = [\"balance\", \"statistics\", \"batch\"]";
            format!("[[principal]]\nname = \"{name}\"\n{may}\ntokens = [\"{}\"]\n", token.hash())
        };
        let mut text = entry("load", &of_load);
        if let Some(rate) = bounded_per_s {
            let burst = (rate / QUOTA_BURSTS_PER_S).max(1);
            text += &entry("bounded", &of_bounded);
            text += &format!("requests_per_s = {rate}\nburst = {burst}\n");
            let file = folder.join("bounded.token");
            write(&file, of_bounded.reveal())?;
            let tls = self.listen.map(|_| format!("tls={},", folder.join(AUTHORITY).display()));
            self.bounded = Some(format!("{}token={}", tls.unwrap_or_default(), file.display()));
        }
        let path = folder.join("principals.toml");
        write(&path, &text)?;
        self.flag("--principals", &path.display().to_string());
        self.access = self.access.clone().with_token(of_load.reveal());
        Ok(())
    }
}

const AUTHORITY: &str = "ca.crt";

/// Nobody else's to read: some are keys and tokens.
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}
