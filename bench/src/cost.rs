//! From requests a second and core to money: cores, machines, dollars a year. Whole numbers throughout: cores and machines
//! are rounded up, money is counted in millionths of a dollar and rounded to whole dollars where it is shown.

use std::{fmt, str::FromStr};

/// The numbers that the case study behind this project was told with.
pub mod story {
    /// vCPUs that were no longer needed.
    pub const VCPUS_SAVED: u64 = 400;
    /// Dollars a year that this was said to save, about.
    pub const DOLLARS_SAVED: u64 = 300_000;
    /// Requests a second after, for one before, in hundredths: of the balance and of the statistics endpoint.
    pub const THROUGHPUT_PERCENT: [u64; 2] = [180, 200];
    /// CPU after for one before at the same load, in hundredths.
    pub const CPU_PERCENT: u64 = 66;
}

/// Hours of a year of 365 days.
pub const HOURS_PER_YEAR: u64 = 8_760;

/// Millionths of a dollar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MicroDollars(pub u128);

impl MicroDollars {
    /// Whole dollars, halves rounded up.
    pub fn dollars(self) -> u128 {
        (self.0 + 500_000) / 1_000_000
    }
}

impl FromStr for MicroDollars {
    type Err = String;

    fn from_str(text: &str) -> Result<MicroDollars, String> {
        let expected = || "expected dollars with at most six decimals, like 0.048".to_owned();
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(part) || whole.len() > 12 || part.len() > 6 {
            return Err(expected());
        }
        let number = |text: &str| text.parse::<u128>().map_err(|_| expected());
        let scale = 10u128.pow(6 - part.len() as u32);
        Ok(MicroDollars(number(whole)? * 1_000_000 + number(part)? * scale))
    }
}

impl fmt::Display for MicroDollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        let trimmed = digits.trim_end_matches('0');
        // Cents at least, as prices are written.
        let cents = digits.len() - 4;
        write!(f, "${}", &digits[..trimmed.len().max(cents)])
    }
}

/// Everything that the money depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assumptions {
    /// Requests a second at the busiest time.
    pub peak: u64,
    /// Requests a second that a core of today's service does within its objective.
    pub before_per_core: u64,
    /// Of its replacement.
    pub after_per_core: u64,
    /// Of today's CPU, the share that is replaced, in %; the rest stays as it is.
    pub replaced_percent: u64,
    /// Of each core, the share that stays free at the peak, in %.
    pub headroom_percent: u64,
    /// vCPUs of a machine. A core of the measurement counts as one.
    pub machine_vcpus: u64,
    /// Machines that may fail at the peak: N + this many are paid for.
    pub spare_machines: u64,
    /// What a vCPU costs for an hour, its share of memory and network included.
    pub vcpu_hour: MicroDollars,
    /// Hours that are paid for.
    pub hours: u64,
}

/// Assumptions of which nothing follows.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// A number out of its range.
    #[error("{name}: expected {expected}, got {got}")]
    Range {
        /// Which.
        name: &'static str,
        /// What would do.
        expected: &'static str,
        /// What came.
        got: u64,
    },
    /// More than fits.
    #[error("these assumptions lead beyond what 64 bits count: check --peak and the rates a core")]
    Overflow,
    /// No file.
    #[error("cannot read {}: {source}; `florin-bench compare` writes it", .path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file without findings.
    #[error("{} holds no findings of this version of florin-bench compare: {source}", .path.display())]
    Findings {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A comparison that does not say it.
    #[error("{0}")]
    Unknown(String),
}

/// What is to be paid for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fleet {
    /// Cores that the peak keeps busy, with headroom.
    pub cores: u64,
    /// Machines, spare ones included.
    pub machines: u64,
    /// A year.
    pub yearly: MicroDollars,
}

/// Today's fleet and the one after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bill {
    /// Today's.
    pub before: Fleet,
    /// With the replacement.
    pub after: Fleet,
}

impl Bill {
    /// Dollars a year less than today; negative where it is more.
    pub fn saved_dollars(&self) -> i128 {
        // Both are below 2^64 × 10^6 × 2^64 micro-dollars only in theory; `fleet` has refused those.
        self.before.yearly.dollars() as i128 - self.after.yearly.dollars() as i128
    }
}

impl Assumptions {
    /// What follows from them.
    pub fn bill(&self) -> Result<Bill, CostError> {
        let range = |name, expected, got, fits: bool| match fits {
            true => Ok(()),
            false => Err(CostError::Range { name, expected, got }),
        };
        range("--peak", "1 or more requests a second", self.peak, self.peak > 0)?;
        range("--before", "1 or more requests a second", self.before_per_core, self.before_per_core > 0)?;
        range("--after", "1 or more requests a second", self.after_per_core, self.after_per_core > 0)?;
        range("--headroom", "0 to 99 %", self.headroom_percent, self.headroom_percent < 100)?;
        range("--replaced", "0 to 100 %", self.replaced_percent, self.replaced_percent <= 100)?;
        range("--machine-vcpus", "1 or more", self.machine_vcpus, self.machine_vcpus > 0)?;
        Ok(Bill {
            before: self.fleet(self.before_per_core)?,
            after: self.fleet(self.effective_per_core().ok_or(CostError::Overflow)?)?,
        })
    }

    /// Requests a second and core once the replaced share is replaced: the rest costs what it has cost.
    fn effective_per_core(&self) -> Option<u64> {
        let (before, after) = (u128::from(self.before_per_core), u128::from(self.after_per_core));
        let replaced = u128::from(self.replaced_percent);
        // 1 / ((1 - share) / before + share / after), in whole numbers.
        let above = before.checked_mul(after)?.checked_mul(100)?;
        let below = (100 - replaced).checked_mul(after)?.checked_add(replaced.checked_mul(before)?)?;
        u64::try_from(above / below).ok().filter(|&rate| rate > 0)
    }

    fn fleet(&self, per_core: u64) -> Result<Fleet, CostError> {
        let usable = u128::from(per_core) * u128::from(100 - self.headroom_percent);
        let cores = (u128::from(self.peak) * 100).div_ceil(usable);
        let machines = cores.div_ceil(u128::from(self.machine_vcpus)) + u128::from(self.spare_machines);
        let vcpu_hours = machines.checked_mul(u128::from(self.machine_vcpus));
        let yearly = vcpu_hours
            .and_then(|vcpus| vcpus.checked_mul(u128::from(self.hours)))
            .and_then(|hours| hours.checked_mul(self.vcpu_hour.0))
            .filter(|&yearly| yearly < u128::MAX / 4);
        match (u64::try_from(cores), u64::try_from(machines), yearly) {
            (Ok(cores), Ok(machines), Some(yearly)) => {
                Ok(Fleet { cores, machines, yearly: MicroDollars(yearly) })
            }
            _ => Err(CostError::Overflow),
        }
    }
}

/// What a vCPU has to cost for an hour, so that `vcpus` of them cost `dollars` in `hours`; rounded to a millionth.
pub fn implied_vcpu_hour(dollars: u64, vcpus: u64, hours: u64) -> MicroDollars {
    let vcpu_hours = u128::from(vcpus) * u128::from(hours);
    MicroDollars((u128::from(dollars) * 1_000_000 + vcpu_hours / 2) / vcpu_hours)
}

/// How many vCPUs there must have been, so that `saved` of them go where each of the others does `percent` of what it did.
pub fn fleet_before(saved: u64, percent: u64) -> u64 {
    // before - before × 100 / percent = saved
    (saved * percent + (percent - 100) / 2) / (percent - 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Assumptions = Assumptions {
        peak: 1_000_000,
        before_per_core: 25_000,
        after_per_core: 100_000,
        replaced_percent: 100,
        headroom_percent: 50,
        machine_vcpus: 16,
        spare_machines: 1,
        vcpu_hour: MicroDollars(50_000),
        hours: HOURS_PER_YEAR,
    };

    #[test]
    fn cores_machines_and_money_follow() {
        let bill = BASE.bill().unwrap();
        // 1,000,000 / 12,500 = 80 cores: 5 machines and one more, 96 vCPUs at $438 a year.
        assert_eq!((bill.before.cores, bill.before.machines), (80, 6));
        assert_eq!(bill.before.yearly.dollars(), 96 * 438);
        // A quarter of the cores is 20: 2 machines and one more.
        assert_eq!((bill.after.cores, bill.after.machines), (20, 3));
        assert_eq!(bill.saved_dollars(), 48 * 438);
    }

    #[test]
    fn cores_and_machines_are_rounded_up() {
        let bill = Assumptions { peak: 1_000_001, ..BASE }.bill().unwrap();
        assert_eq!((bill.before.cores, bill.before.machines), (81, 7));
        let bill = Assumptions { peak: 1, spare_machines: 0, ..BASE }.bill().unwrap();
        assert_eq!((bill.before.cores, bill.before.machines), (1, 1));
    }

    #[test]
    fn what_stays_sets_the_limit_of_what_is_gained() {
        let cores = |replaced_percent| {
            Assumptions { replaced_percent, machine_vcpus: 1, spare_machines: 0, ..BASE }
                .bill()
                .unwrap()
                .after
                .cores
        };
        // Of 80 cores, half stay as they are, and of the others a quarter: 40 + 10.
        assert_eq!(cores(50), 50);
        assert_eq!(cores(100), 20);
        assert_eq!(cores(0), 80);
        // A tenth replaced saves less than a tenth, however fast the replacement is.
        let fast = Assumptions {
            replaced_percent: 10,
            after_per_core: 1 << 40,
            machine_vcpus: 1,
            spare_machines: 0,
            ..BASE
        };
        assert_eq!(fast.bill().unwrap().after.cores, 73);
    }

    #[test]
    fn a_slower_replacement_costs_more() {
        let bill = Assumptions { after_per_core: 12_500, ..BASE }.bill().unwrap();
        assert!(bill.saved_dollars() < 0);
    }

    #[test]
    fn money_is_read_and_written_exactly() {
        for (text, micros, shown) in [
            ("0.048", 48_000, "$0.048"),
            ("1", 1_000_000, "$1.00"),
            ("0.085616", 85_616, "$0.085616"),
            ("12.5", 12_500_000, "$12.50"),
            ("0", 0, "$0.00"),
        ] {
            let money: MicroDollars = text.parse().unwrap();
            assert_eq!((money, money.to_string()), (MicroDollars(micros), shown.to_owned()));
        }
        for wrong in ["", "-1", "0.1234567", "1.", ".5", "1e3", "0x1", "+1", "9999999999999"] {
            assert!(wrong.parse::<MicroDollars>().is_err(), "{wrong:?}");
        }
        assert_eq!(MicroDollars(1_499_999).dollars(), 1);
        assert_eq!(MicroDollars(1_500_000).dollars(), 2);
    }

    #[test]
    fn the_storys_numbers_need_this_price() {
        let price = implied_vcpu_hour(story::DOLLARS_SAVED, story::VCPUS_SAVED, HOURS_PER_YEAR);
        assert_eq!(price, MicroDollars(85_616));
        let yearly = MicroDollars(price.0 * u128::from(story::VCPUS_SAVED * HOURS_PER_YEAR)).dollars();
        assert!(yearly.abs_diff(u128::from(story::DOLLARS_SAVED)) <= 2, "{yearly}");
        assert_eq!(fleet_before(400, 200), 800);
        assert_eq!(fleet_before(400, 180), 900);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (wrong, name) in [
            (Assumptions { peak: 0, ..BASE }, "--peak"),
            (Assumptions { headroom_percent: 100, ..BASE }, "--headroom"),
            (Assumptions { replaced_percent: 101, ..BASE }, "--replaced"),
            (Assumptions { after_per_core: 0, ..BASE }, "--after"),
            (Assumptions { machine_vcpus: 0, ..BASE }, "--machine-vcpus"),
            (
                Assumptions { peak: u64::MAX, vcpu_hour: MicroDollars(u128::from(u64::MAX)), ..BASE },
                "64 bits",
            ),
        ] {
            let error = wrong.bill().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
