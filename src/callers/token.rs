//! Tokens of two kinds.
//!
//! | kind | form | known by |
//! | --- | --- | --- |
//! | random | `florin_` and 43 characters: 32 bytes of chance, base64url | its SHA-256, in the file of principals |
//! | signed | `florin1.KID.NAME.RIGHTS.END.MAC` | HMAC-SHA-256, by the key `KID`, of all before the last dot |
//!
//! `RIGHTS` are names with `+` between them, `END` is seconds since 1970 UTC, `MAC` is 43 characters of base64url. A random token has
//! 256 bits of chance, so a plain hash of it is as good as a slow one, and can be checked where requests are served.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use rand::RngCore;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::secret::Secret;
use crate::limits::{KEY_BYTES_MIN, PRINCIPAL_NAME_BYTES_MAX};
use crate::shard::Rights;
use crate::shard::strikes::Form;

const RANDOM: &str = "florin_";
const SIGNED: &str = "florin1";
/// Of base64, for 32 bytes.
const CHANCE_CHARACTERS: usize = (4 * 32_usize).div_ceil(3);

/// A random token. It is shown once, to whoever made it.
pub struct Token(String);

impl Token {
    /// One that nobody can guess.
    pub fn random() -> Token {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Token(format!("{RANDOM}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Its text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// By which it is known.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.0.as_bytes())
    }
}

/// The SHA-256 of a token; as text `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of these bytes.
    pub fn of(token: &[u8]) -> TokenHash {
        TokenHash(Sha256::digest(token).into())
    }

    /// Tells it from others in a file of tokens.
    pub(super) fn mark(&self) -> u64 {
        u64::from_be_bytes(*self.0.first_chunk().expect("32 bytes"))
    }

    pub(super) fn is(&self, other: &TokenHash) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenHash {
    type Err = &'static str;

    /// What came is not repeated: it may be the token itself.
    fn from_str(text: &str) -> Result<TokenHash, &'static str> {
        let expected = "expected sha256: and 64 hexadecimal digits, the token's hash and not the token (florin principal add makes both)";
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or(expected)?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(expected);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(TokenHash(hash))
    }
}

/// What signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    mac: Hmac<Sha256>,
    mark: u64,
}

impl SigningKey {
    /// By this name; `None` where the secret is too short to be one of chance.
    pub fn new(kid: &str, secret: &Secret) -> Option<SigningKey> {
        if secret.reveal().len() < KEY_BYTES_MIN {
            return None;
        }
        let mac = Hmac::<Sha256>::new_from_slice(secret.reveal()).expect("HMAC takes keys of any length");
        let mark = mac.clone().chain_update(b"which key this is").finalize().into_bytes();
        Some(SigningKey {
            kid: kid.to_owned(),
            mark: u64::from_be_bytes(*mark.first_chunk().expect("32 bytes")),
            mac,
        })
    }

    /// By which a token names it.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Tells it from others.
    pub(super) fn mark(&self) -> u64 {
        self.mark
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}

/// A signed token for `name`, with no more than these rights, until `end_s` (seconds since 1970 UTC).
pub fn sign(key: &SigningKey, name: &str, rights: Rights, end_s: i64) -> Secret {
    let named = Rights::NAMED.iter().filter(|(_, right)| rights.hold(*right)).map(|(name, _)| *name);
    let claims = format!("{SIGNED}.{}.{name}.{}.{end_s}", key.kid, named.collect::<Vec<_>>().join("+"));
    let mac = key.mac.clone().chain_update(claims.as_bytes()).finalize().into_bytes();
    Secret::new(format!("{claims}.{}", URL_SAFE_NO_PAD.encode(mac)).into_bytes())
}

/// What a signed token says, and one of the keys has signed. Allocates nothing.
pub(super) struct Claims<'a> {
    pub(super) key: &'a SigningKey,
    pub(super) name: &'a str,
    pub(super) rights: Rights,
    /// Seconds since 1970 UTC.
    pub(super) end_s: i64,
}

/// Whether it has the form of a signed token.
pub(super) fn is_signed(token: &[u8]) -> bool {
    token.strip_prefix(SIGNED.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'.'))
}

/// Whether a token can be guessed, by its form alone.
pub(super) fn form(token: &[u8]) -> Form {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let chance = token.strip_prefix(RANDOM.as_bytes());
    let is_random =
        chance.is_some_and(|chance| chance.len() == CHANCE_CHARACTERS && chance.iter().all(is_base64));
    if is_random || is_signed(token) { Form::OfChance } else { Form::Any }
}

/// Reads a signed token that one of `keys` has signed.
pub(super) fn verify<'a>(token: &'a [u8], keys: &'a [SigningKey]) -> Option<Claims<'a>> {
    let token = std::str::from_utf8(token).ok()?;
    let (claims, mac) = token.rsplit_once('.')?;
    let mut parts = claims.split('.');
    let (_, kid, name) = (parts.next()?, parts.next()?, parts.next()?);
    let (rights, end) = (parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let key = keys.iter().find(|key| key.kid == kid)?;
    let mut found = [0; 33];
    let bytes = URL_SAFE_NO_PAD.decode_slice(mac, &mut found).ok()?;
    key.mac.clone().chain_update(claims.as_bytes()).verify_slice(&found[..bytes]).ok()?;
    Some(Claims { key, name, rights: named_rights(rights.split('+'))?, end_s: end.parse().ok()? })
}

/// Rights by their names.
pub(super) fn named_rights<'a>(names: impl Iterator<Item = &'a str>) -> Option<Rights> {
    names.filter(|name| !name.is_empty()).try_fold(Rights::NONE, |rights, name| {
        let (_, right) = Rights::NAMED.iter().find(|(known, _)| *known == name)?;
        Some(rights.and(*right))
    })
}

/// What a principal or a key may be called: it stands in tokens, metrics and logs.
pub(super) fn is_name(name: &str) -> bool {
    (1..=PRINCIPAL_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kid: &str, byte: u8) -> SigningKey {
        SigningKey::new(kid, &Secret::new(vec![byte; 32])).unwrap()
    }

    #[test]
    fn a_random_token_is_long_and_known_by_its_hash_alone() {
        let (one, other) = (Token::random(), Token::random());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(one.reveal().len(), RANDOM.len() + 43);
        assert_eq!(form(one.reveal().as_bytes()), Form::OfChance);
        for guessable in
            ["", "hunter2", "florin_hunter2", &one.reveal()[1..], &one.reveal().replace('_', ".")]
        {
            assert_eq!(form(guessable.as_bytes()), Form::Any, "{guessable}");
        }
        let hash = one.hash();
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!(bool::from(hash.is(&TokenHash::of(one.reveal().as_bytes()))));
        assert!(!bool::from(hash.is(&other.hash())));
        let known = TokenHash::of(b"abc").to_string();
        assert_eq!(known, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        for text in ["planted", "sha256:planted", &known[..70], &known.replace('f', "g")] {
            let error = text.parse::<TokenHash>().unwrap_err();
            assert!(error.contains("florin principal add") && !error.contains("planted"), "{error}");
        }
    }

    #[test]
    fn a_signed_token_says_what_was_signed_and_nothing_else_is_believed() {
        let keys = [key("old", 1), key("new", 2)];
        let token = sign(&keys[1], "team-a", Rights::BALANCE.and(Rights::BATCH), 1_795_320_306);
        let text = token.reveal_text().unwrap();
        assert!(
            text.starts_with("florin1.new.team-a.balance+batch.1795320306.")
                && form(token.reveal()) == Form::OfChance
        );
        let claims = verify(token.reveal(), &keys).unwrap();
        assert_eq!((claims.name, claims.end_s, claims.key.kid()), ("team-a", 1_795_320_306, "new"));
        assert_eq!(claims.rights, Rights::BALANCE.and(Rights::BATCH));
        assert!(verify(token.reveal(), &keys[..1]).is_none(), "its key is gone");
        assert!(verify(token.reveal(), &[key("new", 3)]).is_none(), "another key of that name");
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] ^= 1;
            // The last character holds four bits that mean nothing, and then it is not base64.
            assert!(verify(&bytes, &keys).is_none(), "{at}");
            assert!(verify(&bytes[..at], &keys).is_none(), "cut at {at}");
        }
        assert!(verify(format!("{text}A").as_bytes(), &keys).is_none());
    }

    #[test]
    fn a_key_has_chance_enough_and_a_name_has_no_dots() {
        assert!(SigningKey::new("k", &Secret::new(vec![1; KEY_BYTES_MIN - 1])).is_none());
        assert!(is_name("team-a_2") && !is_name("") && !is_name("a.b") && !is_name(&"x".repeat(65)));
        assert_eq!(format!("{:?}", key("k", 7)), "SigningKey(k)");
    }
}
