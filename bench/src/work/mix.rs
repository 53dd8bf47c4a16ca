//! Kinds of question, by weight.

use std::{fmt, str::FromStr};

use florin_schema::frame::BATCH_USERS_MAX;
use rand::{Rng, rngs::SmallRng};

use crate::limits;

/// A kind of question.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// One user's balances.
    Balance,
    /// One user's statistics, all windows.
    Statistics,
    /// So many users' balances at once.
    Batch(u16),
}

impl Kind {
    /// How many users one question names.
    pub fn users(self) -> usize {
        match self {
            Kind::Balance | Kind::Statistics => 1,
            Kind::Batch(users) => usize::from(users),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Balance => f.write_str("balance"),
            Kind::Statistics => f.write_str("statistics"),
            Kind::Batch(users) => write!(f, "batch:{users}"),
        }
    }
}

impl FromStr for Kind {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Kind, MixError> {
        match text.split_once(':') {
            None if text == "balance" => Ok(Kind::Balance),
            None if text == "statistics" => Ok(Kind::Statistics),
            Some(("batch", users)) => match users.parse() {
                Ok(users) if (1..=BATCH_USERS_MAX).contains(&usize::from(users)) => Ok(Kind::Batch(users)),
                _ => Err(MixError::Batch(users.to_owned())),
            },
            _ => Err(MixError::Kind(text.to_owned())),
        }
    }
}

/// Why a text is no mix.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MixError {
    /// An unknown kind.
    #[error("{0:?} is no kind of question: say balance, statistics or batch:N")]
    Kind(String),
    /// A batch of none or too many.
    #[error("a batch has 1 to {BATCH_USERS_MAX} users, not {0:?}")]
    Batch(String),
    /// A weight that is no number above 0.
    #[error("{0:?} is no weight: give a whole number from 1, like balance=9,statistics=1")]
    Weight(String),
}

/// Kinds and their weights: `balance`, or `balance=9,statistics=1,batch:64=2`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mix(Vec<(Kind, u32)>);

impl Mix {
    /// Only this kind.
    pub fn only(kind: Kind) -> Mix {
        Mix(vec![(kind, 1)])
    }

    /// The kinds that occur.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.0.iter().map(|&(kind, _)| kind)
    }

    /// Draws a sequence by weight: of one element where there is one kind.
    pub fn draw(&self, random: &mut SmallRng) -> Box<[Kind]> {
        if let [(kind, _)] = self.0[..] {
            return Box::new([kind]);
        }
        let total: u32 = self.0.iter().map(|&(_, weight)| weight).sum();
        (0..limits::KINDS_DRAWN).map(|_| self.at(random.random_range(0..total))).collect()
    }

    fn at(&self, mut point: u32) -> Kind {
        for &(kind, weight) in &self.0 {
            if point < weight {
                return kind;
            }
            point -= weight;
        }
        unreachable!("a point lies below the sum of the weights")
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(kind, _)] = self.0[..] {
            return kind.fmt(f);
        }
        for (index, (kind, weight)) in self.0.iter().enumerate() {
            write!(f, "{}{kind}={weight}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Mix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Mix, MixError> {
        let parts = text.split(',').map(|part| {
            let (kind, weight) = part.split_once('=').unwrap_or((part, "1"));
            match weight.parse() {
                Ok(weight @ 1..=1_000_000) => Ok((kind.parse()?, weight)),
                _ => Err(MixError::Weight(weight.to_owned())),
            }
        });
        parts.collect::<Result<_, _>>().map(Mix)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_mix_is_drawn_by_its_weights() {
        let mix: Mix = "balance=7,statistics=2,batch:64=1".parse().unwrap();
        let drawn = mix.draw(&mut SmallRng::seed_from_u64(1));
        let share = |kind| drawn.iter().filter(|&&k| k == kind).count() as f64 / drawn.len() as f64;
        for (kind, expected) in [(Kind::Balance, 0.7), (Kind::Statistics, 0.2), (Kind::Batch(64), 0.1)] {
            assert!((share(kind) - expected).abs() < 0.01, "{kind}: {}", share(kind));
        }
        assert_eq!(Mix::only(Kind::Balance).draw(&mut SmallRng::seed_from_u64(1)).len(), 1);
    }

    #[test]
    fn a_mix_is_printed_as_it_is_read() {
        for text in ["balance", "batch:1024", "balance=9,statistics=1"] {
            assert_eq!(text.parse::<Mix>().unwrap().to_string(), text);
        }
        for wrong in ["", "balances", "batch:0", "batch:1025", "batch", "balance=0", "balance=x", "balance,,"]
        {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong:?}");
        }
    }
}
