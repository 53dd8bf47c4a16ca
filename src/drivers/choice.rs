//! The drivers' names: what may be asked for, and what then runs.

use std::{fmt, str::FromStr};

/// Which driver a node is to run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DriverChoice {
    /// The fastest one that this host permits: `ring`, or else monoio on what it can run on.
    #[default]
    Auto,
    /// Our own io_uring loop.
    Ring,
    /// monoio, on io_uring where the host permits it and on epoll where not.
    Monoio,
    /// monoio on epoll, even where io_uring could be had: to see what io_uring brings.
    MonoioEpoll,
    /// glommio.
    Glommio,
}

impl DriverChoice {
    /// All of them.
    pub const ALL: [DriverChoice; 5] = [
        DriverChoice::Auto,
        DriverChoice::Ring,
        DriverChoice::Monoio,
        DriverChoice::MonoioEpoll,
        DriverChoice::Glommio,
    ];

    /// What it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            DriverChoice::Auto => "auto",
            DriverChoice::Ring => "ring",
            DriverChoice::Monoio => "monoio",
            DriverChoice::MonoioEpoll => "monoio-epoll",
            DriverChoice::Glommio => "glommio",
        }
    }
}

impl FromStr for DriverChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<DriverChoice, String> {
        DriverChoice::ALL.into_iter().find(|choice| choice.name() == text).ok_or_else(|| {
            let names = DriverChoice::ALL.map(DriverChoice::name).join(", ");
            format!("{text:?} is no driver: say one of {names}")
        })
    }
}

impl fmt::Display for DriverChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What drives a node's shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DriverKind {
    /// Our own io_uring loop.
    Ring,
    /// monoio on io_uring.
    MonoioIoUring,
    /// monoio on epoll.
    MonoioEpoll,
    /// glommio, which knows only io_uring.
    Glommio,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DriverKind::Ring => "ring",
            DriverKind::MonoioIoUring => "monoio",
            DriverKind::MonoioEpoll => "monoio-epoll",
            DriverKind::Glommio => "glommio",
        })
    }
}

/// What drives a node's shards, and why it is not what was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunningDriver {
    /// What runs.
    pub kind: DriverKind,
    /// Why a faster one does not, in a sentence for the log and for `/readyz`; none where the choice was fulfilled.
    pub fallback: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::DriverChoice;

    #[test]
    fn names_are_read_as_they_are_written() {
        for choice in DriverChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let refusal = "epoll".parse::<DriverChoice>().unwrap_err();
        assert!(refusal.contains("\"epoll\"") && refusal.contains("monoio-epoll"), "{refusal}");
    }
}
