//! Whose proof something is. Made once from a file, and then only read: by every shard's thread and by the admin port.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::file::Entry;
use super::token::{self, SigningKey, TokenHash};
use crate::shard::quota::{Quota, Usage};
use crate::shard::strikes::Form;
use crate::shard::{Principal, Proof, Rights};

/// See the module.
#[derive(Debug)]
pub struct Directory {
    entries: Vec<Known>,
    /// By a principal's number: where it stands among the entries.
    places: Vec<Option<u16>>,
    /// Of all entries, and where those stand.
    tokens: Vec<(TokenHash, u16)>,
    keys: Vec<SigningKey>,
    names: HashMap<String, u16>,
    certificates: HashMap<String, u16>,
    uids: HashMap<u32, u16>,
    gids: HashMap<u32, u16>,
    anonymous: Rights,
}

#[derive(Debug)]
struct Known {
    number: u16,
    entry: Entry,
    quota: Quota,
}

/// What proved a principal, in one word, so that it can be found again in another directory: three bits say which kind, and what
/// the rest holds depends on that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark(u64);

impl Mark {
    const TOKEN: u64 = 1;
    const SIGNED: u64 = 2;
    const UID: u64 = 3;
    const GID: u64 = 4;
    const CERTIFICATE: u64 = 5;
    const REST_BITS: u32 = 61;

    const fn new(kind: u64, rest: u64) -> Mark {
        Mark(kind << Mark::REST_BITS | (rest & ((1 << Mark::REST_BITS) - 1)))
    }

    fn of_token(hash: &TokenHash) -> Mark {
        Mark::new(Mark::TOKEN, hash.mark())
    }

    /// The rights that the token grants are its lowest bits.
    fn of_signed(key: &SigningKey, rights: Rights) -> Mark {
        Mark::new(Mark::SIGNED, key.mark() << 8 | u64::from(rights.bits()))
    }

    fn of_certificate(name: &str) -> Mark {
        let digest = Sha256::digest(name.as_bytes());
        Mark::new(Mark::CERTIFICATE, u64::from_be_bytes(*digest.first_chunk().expect("32 bytes")))
    }

    const fn kind(self) -> u64 {
        self.0 >> Mark::REST_BITS
    }
}

impl Directory {
    /// These, each with its number and what it has used.
    ///
    /// # Panics
    /// Where there are more than 65,535.
    pub(super) fn new(
        anonymous: Rights,
        keys: Vec<SigningKey>,
        entries: impl IntoIterator<Item = (Entry, u16, Arc<Usage>)>,
    ) -> Directory {
        let mut directory = Directory {
            entries: Vec::new(),
            places: Vec::new(),
            tokens: Vec::new(),
            keys,
            names: HashMap::new(),
            certificates: HashMap::new(),
            uids: HashMap::new(),
            gids: HashMap::new(),
            anonymous,
        };
        for (entry, number, usage) in entries {
            let place = u16::try_from(directory.entries.len()).expect("at most PRINCIPALS_MAX");
            directory.names.insert(entry.name.clone(), place);
            directory.tokens.extend(entry.tokens.iter().map(|token| (*token, place)));
            directory.certificates.extend(entry.certificates.iter().map(|name| (name.clone(), place)));
            directory.uids.extend(entry.uids.iter().map(|uid| (*uid, place)));
            directory.gids.extend(entry.gids.iter().map(|gid| (*gid, place)));
            let places = &mut directory.places;
            places.resize(places.len().max(usize::from(number) + 1), None);
            places[usize::from(number)] = Some(place);
            let quota = Quota::new(entry.bounds, usage);
            directory.entries.push(Known { number, entry, quota });
        }
        directory
    }

    /// Who something belongs to at `wall_us`, µs since 1970 UTC; who has proved nothing where it is nobody's.
    pub fn principal(&self, proof: Proof<'_>, wall_us: i64) -> Principal {
        self.find(proof, wall_us).unwrap_or(Principal::anonymous(self.anonymous))
    }

    /// The name of the one with this number.
    pub fn name(&self, number: u16) -> Option<&str> {
        Some(&self.known(number)?.entry.name)
    }

    /// Everybody, and what each has used.
    pub fn all(&self) -> impl Iterator<Item = (&Entry, &Quota)> {
        self.entries.iter().map(|known| (&known.entry, &known.quota))
    }

    /// The keys by which tokens may be signed.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// What may who has proved nothing.
    pub fn anonymous_rights(&self) -> Rights {
        self.anonymous
    }

    fn known(&self, number: u16) -> Option<&Known> {
        let place = (*self.places.get(usize::from(number))?)?;
        self.entries.get(usize::from(place))
    }

    fn find(&self, proof: Proof<'_>, wall_us: i64) -> Option<Principal> {
        match proof {
            Proof::Token(token) if token::is_signed(token) => self.by_signed(token, wall_us),
            Proof::Token(token) => {
                let hash = TokenHash::of(token);
                let known = &self.entries[usize::from(self.place_of_token(&hash)?)];
                Some(self.proved(known, Rights::ALL, Mark::of_token(&hash), i64::MAX))
            }
            Proof::Certificate { names, until_us } if wall_us < until_us => {
                let (name, place) =
                    names.iter().find_map(|name| Some((name, *self.certificates.get(*name)?)))?;
                let known = &self.entries[usize::from(place)];
                Some(self.proved(known, Rights::ALL, Mark::of_certificate(name), until_us))
            }
            Proof::Certificate { .. } => None,
            Proof::Process { uid, gid } => {
                let by_uid = self.uids.get(&uid).map(|place| (place, Mark::new(Mark::UID, uid.into())));
                let by_gid = || self.gids.get(&gid).map(|place| (place, Mark::new(Mark::GID, gid.into())));
                let (place, mark) = by_uid.or_else(by_gid)?;
                Some(self.proved(&self.entries[usize::from(*place)], Rights::ALL, mark, i64::MAX))
            }
        }
    }

    /// Looks at every token, so that the time tells nothing of how much of one was right.
    fn place_of_token(&self, hash: &TokenHash) -> Option<u16> {
        let nobody = u16::MAX;
        let mut found = nobody;
        for (token, place) in &self.tokens {
            found.conditional_assign(place, token.is(hash));
        }
        (!bool::from(found.ct_eq(&nobody))).then_some(found)
    }

    fn by_signed(&self, token: &[u8], wall_us: i64) -> Option<Principal> {
        let claims = token::verify(token, &self.keys)?;
        let known = &self.entries[usize::from(*self.names.get(claims.name)?)];
        let until_us = claims.end_s.checked_mul(1_000_000)?;
        let mark = Mark::of_signed(claims.key, claims.rights);
        (wall_us < until_us).then(|| self.proved(known, claims.rights, mark, until_us))
    }

    fn proved(&self, known: &Known, rights: Rights, mark: Mark, until_us: i64) -> Principal {
        let principal = Principal::known(known.number, known.entry.may.within(rights));
        let principal = principal.proved_by(mark.0, until_us);
        if known.entry.bounds.looks_at_requests() { principal.metered() } else { principal }
    }

    /// One that a directory has named, with what it may do by this one.
    fn again(&self, principal: Principal, wall_us: i64) -> Option<Principal> {
        let known = self.known(principal.number()?)?;
        let mark = Mark(principal.mark());
        let entry = &known.entry;
        let is = |other: Mark| other == mark;
        let rights = match mark.kind() {
            Mark::TOKEN => entry.tokens.iter().any(|hash| is(Mark::of_token(hash))).then_some(Rights::ALL),
            Mark::SIGNED => {
                let granted = Rights::of_bits(mark.0 as u8);
                self.keys.iter().any(|key| is(Mark::of_signed(key, granted))).then_some(granted)
            }
            Mark::UID => {
                entry.uids.iter().any(|uid| is(Mark::new(Mark::UID, (*uid).into()))).then_some(Rights::ALL)
            }
            Mark::GID => {
                entry.gids.iter().any(|gid| is(Mark::new(Mark::GID, (*gid).into()))).then_some(Rights::ALL)
            }
            Mark::CERTIFICATE => {
                entry.certificates.iter().any(|name| is(Mark::of_certificate(name))).then_some(Rights::ALL)
            }
            _ => None,
        }?;
        let until_us = principal.until_us();
        (wall_us < until_us).then(|| self.proved(known, rights, mark, until_us))
    }
}

impl crate::shard::Directory for Directory {
    fn principal(&self, proof: Proof<'_>, wall_us: i64) -> Option<Principal> {
        self.find(proof, wall_us)
    }

    fn form(&self, token: &[u8]) -> Form {
        token::form(token)
    }

    fn again(&self, principal: Principal, wall_us: i64) -> Principal {
        Directory::again(self, principal, wall_us).unwrap_or(Principal::anonymous(self.anonymous))
    }

    fn anonymous(&self) -> Principal {
        Principal::anonymous(self.anonymous)
    }

    fn quota(&self, number: u16) -> Option<&Quota> {
        Some(&self.known(number)?.quota)
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::Principals;
    use super::super::secret::Secret;
    use super::super::token::sign;
    use super::*;

    fn key(kid: &str, byte: u8) -> SigningKey {
        SigningKey::new(kid, &Secret::new(vec![byte; 32])).unwrap()
    }

    const fn certificate<'a>(names: &'a [&'a str]) -> Proof<'a> {
        Proof::Certificate { names, until_us: 10_000_000 }
    }

    fn directory(keys: Vec<SigningKey>, text: &str) -> Directory {
        let principals = Principals::parse(text).unwrap();
        let numbered = principals.entries.into_iter().zip(0..);
        Directory::new(
            principals.anonymous,
            keys,
            numbered.map(|(entry, number)| (entry, number, Arc::default())),
        )
    }

    fn two(a: &str, b: &str) -> String {
        format!("[[principal]]\nname = \"a\"\n{a}\n[[principal]]\nname = \"b\"\n{b}\n")
    }

    fn number(directory: &Directory, proof: Proof<'_>) -> Option<u16> {
        directory.principal(proof, 0).number()
    }

    #[test]
    fn each_kind_of_proof_is_one_principals() {
        let (one, other) = (TokenHash::of(b"one"), TokenHash::of(b"other"));
        let directory = directory(
            Vec::new(),
            &two(
                &format!(
                    "may = [\"balance\"]\ntokens = [\"{one}\"]\nuids = [7]\ncertificates = [\"spiffe://x/a\"]"
                ),
                &format!("may = [\"batch\"]\ntokens = [\"{other}\"]\ngids = [7]"),
            ),
        );
        for (proof, expected) in [
            (Proof::Token(b"one"), Some(0)),
            (Proof::Token(b"other"), Some(1)),
            (Proof::Token(b"another"), None),
            (Proof::Token(b""), None),
            (certificate(&["x", "spiffe://x/a"]), Some(0)),
            (certificate(&["spiffe://x/A", "spiffe://x/"]), None),
            (Proof::Process { uid: 7, gid: 7 }, Some(0)),
            (Proof::Process { uid: 8, gid: 7 }, Some(1)),
            (Proof::Process { uid: 8, gid: 8 }, None),
        ] {
            assert_eq!(number(&directory, proof), expected, "{proof:?}");
        }
        assert_eq!(directory.principal(Proof::Token(b"one"), 0).rights(), Rights::BALANCE);
        assert_eq!(directory.name(1), Some("b"));
    }

    #[test]
    fn a_signed_token_grants_what_both_it_and_the_file_grant_until_it_ends() {
        let key = key("k", 1);
        let directory =
            directory(vec![key.clone()], &two("may = [\"balance\", \"batch\"]", "may = [\"write\"]"));
        let token = sign(&key, "a", Rights::BALANCE.and(Rights::WRITE), 10);
        let found = |wall_us| directory.principal(Proof::Token(token.reveal()), wall_us);
        assert_eq!(
            (found(0).number(), found(0).rights(), found(0).until_us()),
            (Some(0), Rights::BALANCE, 10_000_000)
        );
        assert_eq!((found(9_999_999).number(), found(10_000_000).number()), (Some(0), None));
        let nobody = sign(&key, "c", Rights::ALL, 10);
        assert_eq!(number(&directory, Proof::Token(nobody.reveal())), None);
    }

    /// Whoever stayed connected had the rights of a certificate that nobody could have connected with any more.
    #[test]
    fn a_certificate_proves_nothing_once_it_has_ended() {
        let directory =
            directory(Vec::new(), &two("may = [\"balance\"]\ncertificates = [\"x\"]", "may = []"));
        let found = |wall_us| directory.principal(certificate(&["x"]), wall_us);
        assert_eq!((found(0).number(), found(0).until_us()), (Some(0), 10_000_000));
        assert_eq!((found(9_999_999).number(), found(10_000_000).number()), (Some(0), None));
        let again = |wall_us| directory.again(found(0), wall_us).map(Principal::rights);
        assert_eq!((again(9_999_999), again(10_000_000)), (Some(Rights::BALANCE), None));
    }

    /// Whoever is connected has what the newest file grants to the very proof that it has shown.
    #[test]
    fn what_was_proved_is_found_again_or_not() {
        let hash = TokenHash::of(b"one");
        let all = format!(
            "may = [\"balance\"]\ntokens = [\"{hash}\"]\nuids = [7]\ngids = [8]\ncertificates = [\"x\"]\nrequests_per_s = 5"
        );
        let before = directory(vec![key("k", 1)], &two(&all, "may = []"));
        let token = sign(&key("k", 1), "a", Rights::BALANCE, 10);
        let proofs = [
            Proof::Token(b"one"),
            Proof::Token(token.reveal()),
            Proof::Process { uid: 7, gid: 0 },
            Proof::Process { uid: 0, gid: 8 },
            certificate(&["x"]),
        ];
        let of = |directory: &Directory, proof| {
            let again = directory.again(before.principal(proof, 0), 1);
            again.map(|principal| (principal.rights(), principal.is_metered()))
        };
        let wider = directory(
            vec![key("k", 1)],
            &two(&all.replace("balance", "statistics").replace("requests_per_s = 5", ""), "may = []"),
        );
        let without = directory(vec![key("k", 2)], &two("may = [\"balance\"]", "may = []"));
        for proof in proofs {
            assert_eq!(of(&before, proof), Some((Rights::BALANCE, true)), "{proof:?}");
            let is_signed = matches!(proof, Proof::Token(token) if token::is_signed(token));
            let widened = if is_signed { Rights::NONE } else { Rights::STATISTICS };
            assert_eq!(of(&wider, proof), Some((widened, false)), "{proof:?}");
            assert_eq!(of(&without, proof), None, "{proof:?}");
            let ends = is_signed || matches!(proof, Proof::Certificate { .. });
            assert_eq!(before.again(before.principal(proof, 0), 10_000_000).is_none(), ends);
        }
    }
}
