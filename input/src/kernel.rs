//! Which kernel a host has.

/// The major and the minor number at the head of a kernel's release (`uname -r`, `/proc/sys/kernel/osrelease`), whatever a distribution has
/// appended; `None` where it does not begin with two numbers.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_release_begins_with_two_numbers() {
        for (release, numbers) in [
            ("5.15.0-91-generic", Some((5, 15))),
            ("6.1.0-rc1", Some((6, 1))),
            ("6.12-rc3", Some((6, 12))),
            ("6.12+deb13", Some((6, 12))),
            ("4.18.0-553.el8_10.x86_64", Some((4, 18))),
            ("2.6", Some((2, 6))),
            ("6", None),
            ("unheard of", None),
            ("", None),
        ] {
            assert_eq!(version(release), numbers, "{release}");
        }
    }
}
