//! A plausible platform, made up from a seed: many who give a little, a few who are given a lot.

use florin_record::{NewTransaction, TransactionId};
use florin_schema::{Asset, UserId};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};

use crate::ledger::{Holdings, Kind};
use crate::limits::GENERATED_HOLDS_MAX;

const ASSETS: [&str; 3] = ["COIN", "DIAMOND", "USD"];
/// How unequal receivers are: the most popular of 16,384 gets a tenth of all gifts.
const POPULARITY_EXPONENT: f64 = 1.0;
/// What a gift costs, the cheap ones most often.
const GIFT_PRICES: [i64; 10] = [1, 1, 1, 5, 5, 10, 20, 99, 520, 5_200];
/// What can be bought at once; above every gift, so that a recharge always pays for what was wanted.
const RECHARGE_PACKS: [i64; 5] = [6_000, 12_000, 30_000, 68_000, 128_000];

/// The platform's users and what they have; makes one event after the other, the same ones for the same seed.
///
/// Every version of florin makes the same events of a seed as long as `rand_chacha` and `rand_distr` keep theirs: a
/// test would notice.
pub struct Platform {
    random: ChaCha8Rng,
    /// The most popular first.
    users: Vec<User>,
    popularity: Zipf<f64>,
    assets: [Asset; ASSETS.len()],
    holds: Vec<OpenHold>,
}

/// One thing that happened: the rows must enter the ledger together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    first: NewTransaction,
    second: Option<NewTransaction>,
}

impl Event {
    /// Its one or two rows: a gift is the sender's and the receiver's.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = NewTransaction> {
        let rows = [self.first, self.second.unwrap_or(self.first)];
        rows.into_iter().take(1 + usize::from(self.second.is_some()))
    }
}

struct User {
    id: UserId,
    wallets: [Holdings; ASSETS.len()],
}

struct OpenHold {
    user: usize,
    asset: usize,
    amount: i64,
}

/// What one row is about.
struct Entry {
    user: usize,
    asset: usize,
    kind: Kind,
    amount: i64,
}

impl Platform {
    /// A platform of the users 1 to `users` (at least 2 of them), who own nothing yet.
    pub fn new(users: u32, seed: u64) -> Platform {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut ids: Vec<u32> = (1..=users.max(2)).collect();
        ids.shuffle(&mut random);
        let user = |id| User {
            id: UserId::new(u64::from(id)).expect("32 bits fit"),
            wallets: [Holdings::default(); ASSETS.len()],
        };
        Platform {
            random,
            popularity: Zipf::new(ids.len() as f64, POPULARITY_EXPONENT)
                .expect("there are users, and 1 is a legal exponent"),
            users: ids.into_iter().map(user).collect(),
            assets: ASSETS.map(|code| Asset::parse(code.as_bytes()).expect("the codes above are legal")),
            holds: Vec::new(),
        }
    }

    /// The next thing that happens, at the given time (µs since 1970 UTC).
    pub fn next_event(&mut self, occurred_at_us: i64) -> Event {
        let user = self.random.random_range(0..self.users.len());
        match self.random.random_range(0..100) {
            0..58 => self.gift(user, occurred_at_us),
            58..76 => self.recharge(user, occurred_at_us),
            76..82 => {
                // Who is given much also takes much out.
                let user = self.popular();
                self.spend(user, Kind::Withdrawal, occurred_at_us)
            }
            82..88 => self.spend(user, Kind::Hold, occurred_at_us),
            88..94 => self.settle_hold(user, occurred_at_us),
            94..97 => self.credit(user, Kind::Refund, occurred_at_us),
            97..99 => self.credit(user, Kind::AdjustmentCredit, occurred_at_us),
            _ => self.debit_by_operator(user, occurred_at_us),
        }
    }

    /// A recharge of somebody's: an event of one row.
    pub fn next_recharge(&mut self, occurred_at_us: i64) -> Event {
        let user = self.random.random_range(0..self.users.len());
        self.recharge(user, occurred_at_us)
    }

    fn gift(&mut self, sender: usize, at_us: i64) -> Event {
        let asset = self.asset([70, 25, 5]);
        let amount = self.pick(&GIFT_PRICES);
        let mut receiver = self.popular();
        if receiver == sender {
            receiver = (sender + 1) % self.users.len();
        }
        if self.users[sender].wallets[asset].available < amount {
            return self.recharge_asset(sender, asset, at_us);
        }
        let first = self.row(Entry { user: sender, asset, kind: Kind::GiftSent, amount }, at_us);
        let second = self.row(Entry { user: receiver, asset, kind: Kind::GiftReceived, amount }, at_us);
        Event { first, second: Some(second) }
    }

    fn recharge(&mut self, user: usize, at_us: i64) -> Event {
        let asset = self.asset([60, 15, 25]);
        self.recharge_asset(user, asset, at_us)
    }

    fn recharge_asset(&mut self, user: usize, asset: usize, at_us: i64) -> Event {
        let amount = self.pick(&RECHARGE_PACKS);
        self.single(Entry { user, asset, kind: Kind::Recharge, amount }, at_us)
    }

    /// Withdraws or holds part of what the user has; who has nothing recharges.
    fn spend(&mut self, user: usize, kind: Kind, at_us: i64) -> Event {
        let asset = self.asset([40, 30, 30]);
        let available = self.users[user].wallets[asset].available;
        if available < 2 || (kind == Kind::Hold && self.holds.len() >= GENERATED_HOLDS_MAX) {
            return self.recharge_asset(user, asset, at_us);
        }
        let amount = self.random.random_range(1..=available / 2);
        if kind == Kind::Hold {
            self.holds.push(OpenHold { user, asset, amount });
        }
        self.single(Entry { user, asset, kind, amount }, at_us)
    }

    /// Ends an open hold, whoever's it is; where there is none, `user` recharges.
    fn settle_hold(&mut self, user: usize, at_us: i64) -> Event {
        if self.holds.is_empty() {
            return self.recharge(user, at_us);
        }
        let at = self.random.random_range(0..self.holds.len());
        let OpenHold { user, asset, amount } = self.holds.swap_remove(at);
        let kind = if self.random.random_range(0..10) < 7 { Kind::Capture } else { Kind::Release };
        self.single(Entry { user, asset, kind, amount }, at_us)
    }

    fn credit(&mut self, user: usize, kind: Kind, at_us: i64) -> Event {
        let asset = self.asset([60, 20, 20]);
        let amount = self.pick(&GIFT_PRICES);
        self.single(Entry { user, asset, kind, amount }, at_us)
    }

    /// A chargeback: taken whether the user still has it or not, so a few balances are negative, as on real platforms.
    fn debit_by_operator(&mut self, user: usize, at_us: i64) -> Event {
        let asset = self.asset([60, 20, 20]);
        if self.users[user].wallets[asset].available == 0 {
            return self.recharge_asset(user, asset, at_us);
        }
        let amount = self.pick(&GIFT_PRICES);
        self.single(Entry { user, asset, kind: Kind::AdjustmentDebit, amount }, at_us)
    }

    fn single(&mut self, entry: Entry, at_us: i64) -> Event {
        Event { first: self.row(entry, at_us), second: None }
    }

    fn row(&mut self, entry: Entry, occurred_at_us: i64) -> NewTransaction {
        let Entry { user, asset, kind, amount } = entry;
        let user = &mut self.users[user];
        let wallet = &mut user.wallets[asset];
        *wallet = kind.apply(*wallet, amount).expect("amounts are far too small to overflow");
        NewTransaction {
            transaction_id: TransactionId::at(occurred_at_us, self.random.random()),
            user_id: user.id,
            asset: self.assets[asset],
            kind,
            amount,
            occurred_at_us,
        }
    }

    /// A user, the popular ones more often.
    fn popular(&mut self) -> usize {
        let rank = self.popularity.sample(&mut self.random);
        (rank as usize).clamp(1, self.users.len()) - 1
    }

    /// An asset, by weights that add up to 100.
    fn asset(&mut self, weights: [u32; ASSETS.len()]) -> usize {
        let drawn = self.random.random_range(0..100);
        if drawn < weights[0] {
            0
        } else if drawn < weights[0] + weights[1] {
            1
        } else {
            2
        }
    }

    fn pick(&mut self, choices: &[i64]) -> i64 {
        choices[self.random.random_range(0..choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn events(seed: u64, count: i64) -> Vec<Event> {
        let mut platform = Platform::new(500, seed);
        (0..count).map(|at_us| platform.next_event(at_us)).collect()
    }

    #[test]
    fn a_seed_makes_the_same_platform_every_time() {
        assert_eq!(events(7, 2_000), events(7, 2_000));
        assert_ne!(events(7, 100), events(8, 100));
    }

    #[test]
    fn a_seed_makes_the_same_platform_in_every_version() {
        // Each event depends on all that was drawn before it.
        let event = events(7, 1_000).pop().unwrap();
        let row = event.rows().next().unwrap();
        let text =
            format!("{} {} {} {} {}", row.transaction_id, row.user_id, row.asset, row.kind, row.amount);
        assert_eq!(text, "00000000-0000-7bdb-8b3a-859710e57cfc 81 COIN recharge 6000");
    }

    #[test]
    fn gifts_are_pairs_and_holds_are_never_overdrawn() {
        let mut wallets: HashMap<(UserId, Asset), Holdings> = HashMap::new();
        let mut negative = 0;
        for event in events(7, 50_000) {
            let rows: Vec<_> = event.rows().collect();
            if let [sent, received] = rows[..] {
                assert_eq!((sent.kind, received.kind), (Kind::GiftSent, Kind::GiftReceived));
                assert_eq!((sent.asset, sent.amount), (received.asset, received.amount));
                assert_ne!((sent.user_id, sent.transaction_id), (received.user_id, received.transaction_id));
            } else {
                assert!(!matches!(rows[0].kind, Kind::GiftSent | Kind::GiftReceived));
            }
            for row in rows {
                assert_eq!(row.check(), Ok(()));
                let wallet = wallets.entry((row.user_id, row.asset)).or_default();
                *wallet = row.kind.apply(*wallet, row.amount).unwrap();
                assert!(wallet.held >= 0);
                negative += i32::from(wallet.available < 0);
            }
        }
        assert!(negative < 50, "{negative} balances went below zero");
    }

    #[test]
    fn few_receive_much_many_send_a_little() {
        let mut received: HashMap<UserId, u32> = HashMap::new();
        let mut sent: HashMap<UserId, u32> = HashMap::new();
        let mut kinds = [0; 11];
        for row in events(7, 50_000).iter().flat_map(|event| event.rows().collect::<Vec<_>>()) {
            kinds[usize::from(row.kind.number())] += 1;
            match row.kind {
                Kind::GiftReceived => *received.entry(row.user_id).or_default() += 1,
                Kind::GiftSent => *sent.entry(row.user_id).or_default() += 1,
                _ => {}
            }
        }
        let gifts: u32 = sent.values().sum();
        assert!(received.values().max() > Some(&(gifts / 20)), "nobody is popular");
        assert!(sent.values().max() < Some(&(gifts / 100)), "somebody sends far more than the others");
        assert!(kinds[1..].iter().all(|&count| count > 100), "{kinds:?}");
    }
}
