//! Wrong tokens, counted by the address that showed them: each may show some at once, and then one now and then. Above that only what
//! nobody can guess is looked at, for behind one address there may be many callers, of whom one has an old token.

use alloc::boxed::Box;
use core::net::IpAddr;

use florin_schema::ids::mix;

use crate::limits::{WRONG_TOKEN_PLACES, WRONG_TOKEN_US, WRONG_TOKENS_BURST};

/// What a token may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Anything, and so perhaps something that can be guessed.
    Any,
    /// 256 bits of chance, or signed with as many: whoever tries has looked for nothing.
    OfChance,
}

/// Why a token proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Struck {
    /// It is nobody's.
    Wrong,
    /// It was not looked at, or is nobody's either, and too many had come from its address before.
    TooMany,
}

/// See the module. Addresses that fall together share what they may.
#[derive(Debug)]
pub struct Strikes {
    /// When all that were shown are paid for, monotonic µs.
    paid_at_us: Box<[u64]>,
}

impl Default for Strikes {
    fn default() -> Strikes {
        Strikes { paid_at_us: alloc::vec![0; WRONG_TOKEN_PLACES].into_boxed_slice() }
    }
}

impl Strikes {
    /// Whose a token of this form is that an address shows: what `find` finds, unless it is not looked at.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn judge<T>(
        &mut self,
        from: Option<IpAddr>,
        now_us: u64,
        form: Form,
        find: impl FnOnce() -> Option<T>,
    ) -> Result<T, Struck> {
        let paid_at_us = &mut self.paid_at_us[place_of(from)];
        let has_too_many = *paid_at_us > now_us + (WRONG_TOKENS_BURST - 1) * WRONG_TOKEN_US;
        if has_too_many && form == Form::Any {
            return Err(Struck::TooMany);
        }
        match find() {
            Some(found) => Ok(found),
            None if has_too_many => Err(Struck::TooMany),
            None => {
                *paid_at_us = now_us.max(*paid_at_us) + WRONG_TOKEN_US;
                Err(Struck::Wrong)
            }
        }
    }
}

/// Of IPv6 a host has a whole network.
fn place_of(address: Option<IpAddr>) -> usize {
    let key = match address.map(|address| address.to_canonical()) {
        None => 0,
        Some(IpAddr::V4(address)) => u64::from(address.to_bits()) | 1 << 32,
        Some(IpAddr::V6(address)) => (address.to_bits() >> 64) as u64,
    };
    mix(key) as usize % WRONG_TOKEN_PLACES
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn an_address_has_so_many_at_once_and_then_one_now_and_then() {
        let mut strikes = Strikes::default();
        let [one, other] = [1, 2].map(|last| Some(IpAddr::from([192, 0, 2, last])));
        let mut shown = |from, now_us, form, found: Option<()>| strikes.judge(from, now_us, form, || found);
        let looked_at = |outcomes: &[Result<(), Struck>]| {
            outcomes.iter().filter(|&&outcome| outcome == Err(Struck::Wrong)).count() as u64
        };
        let many: Vec<_> = (0..100).map(|_| shown(one, 1_000, Form::Any, None)).collect();
        assert_eq!(looked_at(&many), WRONG_TOKENS_BURST);
        assert_eq!(
            shown(one, 1_000, Form::Any, Some(())),
            Err(Struck::TooMany),
            "a right one could be a guess"
        );
        assert_eq!(shown(one, 1_000, Form::OfChance, Some(())), Ok(()), "and this could not");
        assert_eq!(shown(one, 1_000, Form::OfChance, None), Err(Struck::TooMany));
        assert_eq!(shown(other, 1_000, Form::Any, Some(())), Ok(()));
        let later = [(), ()].map(|()| shown(one, 1_000 + WRONG_TOKEN_US, Form::OfChance, None));
        assert_eq!(later, [Err(Struck::Wrong), Err(Struck::TooMany)], "each that is looked at counts");
        let many: Vec<_> = (0..100).map(|_| shown(one, 1 << 40, Form::Any, None)).collect();
        assert_eq!(looked_at(&many), WRONG_TOKENS_BURST);
    }

    #[test]
    fn a_host_has_one_place_however_it_is_written() {
        let place = |text: &str| place_of(Some(text.parse().expect("an address")));
        assert_eq!(place("192.0.2.1"), place("::ffff:192.0.2.1"));
        assert_eq!(place("2001:db8::1"), place("2001:db8::2"));
    }
}
