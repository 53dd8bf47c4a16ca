//! A network of a node's own with two links, so that it can be cut off from some while others reach it.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// Of the two links one; who has the network says whom each leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Link {
    First,
    Second,
}

impl Link {
    /// Its end within.
    fn name(self) -> &'static str {
        if self == Link::First { "first" } else { "second" }
    }
}

/// A network namespace; given back when dropped.
pub struct Network {
    name: String,
    number: u8,
}

impl Network {
    /// `None` where this host lends none: to who is not root.
    pub fn new() -> Option<Network> {
        const NETWORKS: u32 = 250;
        let add = |number: u32| {
            let name = format!("florin-{}", number % NETWORKS);
            ip(&["netns", "add", &name]).then(|| Network { name, number: (number % NETWORKS) as u8 })
        };
        // Another's network may have that number.
        let network = (std::process::id()..).take(NETWORKS as usize).find_map(add)?;
        let made = [Link::First, Link::Second].into_iter().all(|link| {
            let (outer, inner, name) = (network.outer(link), link.name(), network.name.as_str());
            let (there, here) = (network.there(link), network.here(link));
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", inner, "netns", name])
                && ip(&["address", "add", &format!("{there}/30"), "dev", &outer])
                && ip(&["link", "set", "dev", &outer, "up"])
                && ip(&["-n", name, "address", "add", &format!("{here}/30"), "dev", inner])
                && ip(&["-n", name, "link", "set", "dev", inner, "up"])
        });
        (made && ip(&["-n", &network.name, "link", "set", "dev", "lo", "up"])).then_some(network)
    }

    /// The address at a link's other end.
    pub fn there(&self, link: Link) -> Ipv4Addr {
        self.address(if link == Link::First { 1 } else { 5 })
    }

    /// Where the node within is reached by it.
    pub fn here(&self, link: Link) -> Ipv4Addr {
        self.address(if link == Link::First { 2 } else { 6 })
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, last)
    }

    /// A link's end outside.
    fn outer(&self, link: Link) -> String {
        format!("florin{}{}", self.number, link.name())
    }

    /// The same command, run within.
    pub fn within(&self, command: &Command) -> Command {
        let mut within = Command::new("ip");
        within.args(["netns", "exec", &self.name]).arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            within.current_dir(folder);
        }
        within
    }

    /// Loses all that goes by a link, either way and without a word to either end: it is sent to a station that is not there.
    pub fn cut(&self, link: Link) {
        let nobody = ["lladdr", "02:00:00:00:00:01", "nud", "permanent"];
        let (there, here, outer) =
            (self.there(link).to_string(), self.here(link).to_string(), self.outer(link));
        let inner =
            [&["-n", &self.name, "neigh", "replace", &there, "dev", link.name()][..], &nobody].concat();
        let outer = [&["neigh", "replace", &here, "dev", &outer][..], &nobody].concat();
        assert!(ip(&inner) && ip(&outer));
    }

    /// Lets it through again.
    pub fn mend(&self, link: Link) {
        let (there, here, outer) =
            (self.there(link).to_string(), self.here(link).to_string(), self.outer(link));
        let inner = ip(&["-n", &self.name, "neigh", "del", &there, "dev", link.name()]);
        assert!(inner && ip(&["neigh", "del", &here, "dev", &outer]));
    }

    /// Takes a link down, which both ends can see.
    pub fn take_down(&self, link: Link) {
        assert!(ip(&["link", "set", "dev", &self.outer(link), "down"]));
    }
}

fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).stderr(Stdio::null()).status().is_ok_and(|ended| ended.success())
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its links go with it.
        let _ = ip(&["netns", "del", &self.name]);
    }
}
