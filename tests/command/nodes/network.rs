//! A network of a node's own, so that it can be cut off from the brokers while its callers and the other nodes reach it.

use std::net::Ipv4Addr;
use std::process::Command;

/// The link to the brokers.
const BROKERS: &str = "broker";

/// A network namespace, with one link to where the brokers are and one to everybody else; given back when dropped.
pub struct Network {
    name: String,
    number: u8,
}

impl Network {
    /// `None` where this host lends none: to who is not root.
    pub fn new() -> Option<Network> {
        let number = (std::process::id() % 250) as u8;
        let network = Network { name: format!("florin-{number}"), number };
        network.ip(&["netns", "add", &network.name]).then_some(())?;
        let to_brokers = (BROKERS, network.brokers(), network.to_brokers());
        let made = [to_brokers, ("other", network.others(), network.node())].into_iter().all(
            |(link, there, here)| {
                let (outer, name) = (network.link(link), network.name.as_str());
                network.ip(&["link", "add", &outer, "type", "veth", "peer", "name", link, "netns", name])
                    && network.ip(&["address", "add", &format!("{there}/30"), "dev", &outer])
                    && network.ip(&["link", "set", "dev", &outer, "up"])
                    && network.ip(&["-n", name, "address", "add", &format!("{here}/30"), "dev", link])
                    && network.ip(&["-n", name, "link", "set", "dev", link, "up"])
            },
        );
        (made && network.ip(&["-n", &network.name, "link", "set", "dev", "lo", "up"])).then_some(network)
    }

    /// Where brokers listen for it.
    pub fn brokers(&self) -> Ipv4Addr {
        self.address(1)
    }

    fn to_brokers(&self) -> Ipv4Addr {
        self.address(2)
    }

    /// Where other nodes listen.
    pub fn others(&self) -> Ipv4Addr {
        self.address(5)
    }

    /// Where the node within is reached.
    pub fn node(&self) -> Ipv4Addr {
        self.address(6)
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, last)
    }

    /// A link's end outside.
    fn link(&self, name: &str) -> String {
        format!("florin{}{name}", self.number)
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

    /// Loses all that goes from the node to the brokers, and from them to it, without a word to either: it is sent to a station that is not
    /// there.
    pub fn cut(&self) {
        let nobody = ["lladdr", "02:00:00:00:00:01", "nud", "permanent"];
        let (there, here, outer) =
            (self.brokers().to_string(), self.to_brokers().to_string(), self.link(BROKERS));
        let inner = [&["-n", &self.name, "neigh", "replace", &there, "dev", BROKERS][..], &nobody].concat();
        let outer = [&["neigh", "replace", &here, "dev", &outer][..], &nobody].concat();
        assert!(self.ip(&inner) && self.ip(&outer));
    }

    /// Lets it through again.
    pub fn mend(&self) {
        let (there, here, outer) =
            (self.brokers().to_string(), self.to_brokers().to_string(), self.link(BROKERS));
        let inner = self.ip(&["-n", &self.name, "neigh", "del", &there, "dev", BROKERS]);
        assert!(inner && self.ip(&["neigh", "del", &here, "dev", &outer]));
    }

    fn ip(&self, words: &[&str]) -> bool {
        Command::new("ip").args(words).status().is_ok_and(|ended| ended.success())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its links go with it.
        let _ = self.ip(&["netns", "del", &self.name]);
    }
}
