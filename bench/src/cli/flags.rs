//! Values of flags that several commands take.

use std::{str::FromStr, time::Duration};

use crate::{generator::Load, work::Arrivals};

/// A load on the command line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct LoadSpec {
    pub(super) connections: usize,
    pub(super) depth: usize,
    pub(super) rate: Option<f64>,
}

impl LoadSpec {
    pub(super) fn load(self, arrivals: Arrivals) -> Load {
        let LoadSpec { connections, depth, rate } = self;
        match rate {
            None => Load::Closed { connections, depth },
            Some(rate) => Load::Open { connections, depth, rate, arrivals },
        }
    }
}

impl FromStr for LoadSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<LoadSpec, String> {
        let read = || {
            let (closed, rate) =
                text.split_once('@').map_or((text, None), |(closed, rate)| (closed, Some(rate)));
            let (connections, depth) = closed.split_once('x')?;
            let count = |text: &str| text.parse().ok().filter(|&count: &usize| count > 0);
            let rate = match rate {
                None => None,
                Some(rate) => Some(positive(rate).ok()?),
            };
            Some(LoadSpec { connections: count(connections)?, depth: count(depth)?, rate })
        };
        read().ok_or_else(|| {
            "expected CONNECTIONSxDEPTH or CONNECTIONSxDEPTH@RATE, like 64x32 or 64x32@100000".to_owned()
        })
    }
}

pub(super) fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&number: &f64| number > 0.0 && number.is_finite());
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

pub(super) fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&number: &f64| number >= 0.0 && number.is_finite());
    number.ok_or_else(|| "expected a number from 0".to_owned())
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(not_negative(text)?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_closed_or_has_a_rate() {
        let load = |text: &str| text.parse::<LoadSpec>().map(|spec| spec.load(Arrivals::Poisson));
        assert_eq!(load("64x32"), Ok(Load::Closed { connections: 64, depth: 32 }));
        let open = Load::Open { connections: 8, depth: 2, rate: 5e5, arrivals: Arrivals::Poisson };
        assert_eq!(load("8x2@500000"), Ok(open));
        for wrong in ["", "64", "0x1", "1x0", "1x1@", "1x1@0", "1x1@inf", "ax1"] {
            assert!(load(wrong).is_err(), "{wrong:?}");
        }
    }
}
