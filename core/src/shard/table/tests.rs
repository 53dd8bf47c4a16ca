//! The table against a plain model: a recomputation from the rows.

mod quarantine;

use alloc::collections::BTreeMap;

use florin_schema::layout::WindowTotals;
use florin_schema::{Asset, Version, Window};
use proptest::prelude::*;

use super::*;
use crate::ledger::{Counting, Holdings, Kind};
use crate::limits::CHECKPOINT_PIECE_BYTES;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// 2026-11-22T04:05:06Z.
const NOW_US: i64 = 1_795_320_306_000_000;

fn asset(index: usize) -> Asset {
    Asset::parse(["USD", "COIN", "DIAMOND", "A", "ZZZ", "B_1"][index].as_bytes()).unwrap()
}

/// What schemas/domain.md says, row by row, with no regard for speed.
#[derive(Default)]
struct Model {
    rows: BTreeMap<UserId, Vec<Transaction>>,
}

impl Model {
    fn balances(&self, user_id: UserId) -> BTreeMap<Asset, Holdings> {
        let mut balances = BTreeMap::new();
        for row in &self.rows[&user_id] {
            let held: &mut Holdings = balances.entry(row.asset).or_default();
            *held = row.kind.apply(*held, row.amount).unwrap();
        }
        balances
    }

    fn totals(&self, user_id: UserId, asset: Asset, window: Window, wall_us: i64) -> WindowTotals {
        let mut totals = WindowTotals::default();
        for row in self.rows[&user_id].iter().filter(|row| row.asset == asset) {
            if !joins(row.occurred_at_us, window, wall_us) {
                continue;
            }
            match row.kind.counting() {
                Counting::Credit => {
                    totals.credit_count += 1;
                    totals.credit_sum += row.amount;
                }
                Counting::Debit => {
                    totals.debit_count += 1;
                    totals.debit_sum += row.amount;
                    totals.largest_debit.set(totals.largest_debit.get().max(row.amount));
                }
                Counting::Neither => {}
            }
        }
        totals
    }
}

/// The windows of schemas/domain.md in other words than the implementation's: by how many buckets ago.
fn joins(at_us: i64, window: Window, wall_us: i64) -> bool {
    let (bucket_us, buckets) = match window {
        Window::Hours24 => (HOUR_US, 24),
        Window::Days7 => (DAY_US, 7),
        Window::Days30 => (DAY_US, 30),
        Window::Lifetime => return true,
    };
    let ago = wall_us.div_euclid(bucket_us) - at_us.div_euclid(bucket_us);
    (0..buckets).contains(&ago)
}

/// Where the table says that it does not hold an account's windows for this time, its history is read again first.
fn check(table: &mut Table, model: &Model, wall_us: i64) {
    let mut totals = Vec::new();
    let horizon = Horizon::at(wall_us);
    for (&user_id, rows) in &model.rows {
        let user = user_id.hashed();
        let is_exact = |table: &Table| horizon.is_within(table.exact(table.find(user).unwrap()));
        if !is_exact(table) {
            assert!(table.ask_again(user) && !table.ask_again(user), "it is asked for once");
            table.begin_reread(user_id);
            for row in rows {
                assert_eq!(table.apply_reread(row, &horizon), Outcome::Applied);
            }
            table.end_reread(user_id);
        }
        assert!(is_exact(table));
        let found = look_up(table, user_id.hashed()).expect("an account of the model");
        let Found { balance, trust, .. } = found;
        assert_eq!(trust, Trust::Whole);
        assert_eq!(balance.root.version.get(), rows.len() as u64);
        assert_eq!(balance.root.user_id.get(), user_id.get());
        let last = rows.iter().map(|row| row.occurred_at_us).max().unwrap();
        assert_eq!(balance.root.updated_at_us.get(), last);
        let held: Vec<_> = balance
            .rows
            .iter()
            .map(|row| (row.asset(), Holdings { available: row.available.get(), held: row.held.get() }))
            .collect();
        assert_eq!(held, model.balances(user_id).into_iter().collect::<Vec<_>>());
        let span = table.statistics(found, &Horizon::at(wall_us), &mut totals);
        assert_eq!(span, (rows.iter().map(|row| row.occurred_at_us).min().unwrap(), last));
        assert_eq!(totals.len(), held.len());
        for AssetTotals { asset, windows } in &totals {
            for (window, found) in Window::ALL.into_iter().zip(windows) {
                let expected = model.totals(user_id, *asset, window, wall_us);
                assert_eq!(*found, expected, "{user_id} {asset} {} at {wall_us}", window.name());
            }
        }
    }
}

fn row(user_id: u64, version: u64, kind: Kind, amount: i64, occurred_at_us: i64) -> Transaction {
    let user_id = UserId::new(user_id).unwrap();
    Transaction { user_id, version: Version(version), asset: asset(0), kind, amount, occurred_at_us }
}

#[derive(Clone, Debug)]
enum Step {
    Row {
        user: u64,
        asset: usize,
        kind: usize,
        amount: i64,
        ago_us: i64,
    },
    /// Or, where it is negative, the clock is set back.
    Wait {
        us: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let ago = prop_oneof![
        5 => 0..2 * HOUR_US,
        4 => 0..3 * DAY_US,
        3 => 0..40 * DAY_US,
        1 => -50 * HOUR_US..0,
        1 => -20 * DAY_US..0,
        1 => Just(400 * DAY_US),
    ];
    // What fits into 32 bits, and what does not.
    let amount = prop_oneof![
        30 => 1..1_000_000_i64,
        1 => (i64::from(u32::MAX) - 10_000)..=i64::from(u32::MAX),
        1 => 1..1_i64 << 40,
    ];
    prop_oneof![
        8 => (0..12u64, 0..6usize, 0..10usize, amount, ago)
            .prop_map(|(user, asset, kind, amount, ago_us)| Step::Row { user, asset, kind, amount, ago_us }),
        1 => prop_oneof![
            0..2 * HOUR_US,
            0..3 * DAY_US,
            0..45 * DAY_US,
            -3 * HOUR_US..0,
            -40 * DAY_US..0,
        ]
        .prop_map(|us| Step::Wait { us }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_table_answers_what_recomputing_from_the_rows_gives(steps in prop::collection::vec(step(), 1..300)) {
        let (mut table, mut model) = (Table::new(), Model::default());
        let mut wall_us = NOW_US;
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait { us } => wall_us += us,
                Step::Row { user, asset: index, kind, amount, ago_us } => {
                    let user_id = UserId::new(user * 7_919).unwrap();
                    let rows = model.rows.entry(user_id).or_default();
                    let row = Transaction {
                        user_id,
                        version: Version(rows.len() as u64 + 1),
                        asset: asset(index),
                        kind: Kind::ALL[kind],
                        amount,
                        occurred_at_us: wall_us - ago_us,
                    };
                    rows.push(row);
                    // Some are shown as soon as they come, others with what comes behind them.
                    let apply = if n % 3 == 0 { Table::apply_part } else { Table::apply };
                    prop_assert_eq!(apply(&mut table, &row, &Horizon::at(wall_us)), Outcome::Applied);
                    prop_assert_eq!(apply(&mut table, &row, &Horizon::at(wall_us)), Outcome::Duplicate);
                }
            }
            if n % 16 == 0 {
                while table.show_next().is_some() {}
                check(&mut table, &model, wall_us);
            }
        }
        while table.show_next().is_some() {}
        check(&mut table, &model, wall_us);
        for later in [HOUR_US, DAY_US, 8 * DAY_US, 31 * DAY_US, -DAY_US, -400 * DAY_US] {
            check(&mut table, &model, wall_us + later);
        }
    }
}

/// A writer's wrong clock gave one account 100,000 rows, each in an hour of its own far ahead. Each made the account's
/// buckets one longer, sorted them and moved those behind it: quadratic, and each read went through all of them.
#[test]
fn rows_far_ahead_of_the_clock_take_no_room() {
    let (mut table, now) = (Table::new(), Horizon::at(NOW_US));
    const ROWS: u64 = 100_000;
    for version in 1..=ROWS {
        // In no order.
        let ahead = (version * 7_919 % ROWS) as i64;
        let row = row(9, version, Kind::Recharge, 1, NOW_US + ahead * HOUR_US);
        assert_eq!(table.apply(&row, &now), Outcome::Applied);
    }
    let found = table.find(UserId::new(9).unwrap().hashed()).unwrap();
    let bytes = found.account.statistics_bytes(&table.blocks);
    assert!(bytes < 8 * 1_024, "{bytes} bytes of statistics");
    assert!(now.is_within(table.exact(found)));
}

/// Rows of one commit went into the account as they came, and a shard's turn could end between them: half of what the commit did
/// was answered.
#[test]
fn a_commit_is_shown_as_a_whole() {
    let (mut table, now) = (Table::new(), Horizon::at(NOW_US));
    let rows: Vec<_> = (1..=6).map(|v| row(9, v, Kind::Recharge, 10, NOW_US)).collect();
    let user = rows[0].user_id.hashed();
    let shown = |table: &Table| table.find(user).map(|found| found.balance.root.version.get());
    table.apply_part(&rows[0], &now);
    assert_eq!((shown(&table), table.accounts()), (None, 0), "a new user is not there before the commit is");
    assert!(table.is_coming(user.id));
    assert_eq!(table.apply(&rows[1], &now), Outcome::Applied);
    assert_eq!(shown(&table), Some(2));
    assert!(!table.is_coming(user.id));
    assert_eq!(table.apply_part(&rows[1], &now), Outcome::Duplicate);
    assert!(table.unfinished.is_empty(), "what changes nothing takes no room");
    table.apply_part(&rows[2], &now);
    assert_eq!(table.apply_part(&rows[4], &now), Outcome::Gap { ask: true });
    let seen = table.find(user).expect("it is shown");
    assert_eq!((seen.trust, table.quarantined()), (Trust::Whole, 0), "as it was before the commit");

    // Its history comes while the commit does.
    table.begin_reread(user.id);
    for row in &rows[..5] {
        assert_eq!(table.apply_reread(row, &now), Outcome::Applied);
    }
    table.end_reread(user.id);
    assert_eq!(shown(&table), Some(2));
    assert_eq!(table.show_next(), Some((user.id, Coming::default())));
    assert_eq!((shown(&table), table.quarantined(), table.show_next()), (Some(5), 0, None));

    // What is known to be unreadable is flagged without delay.
    table.apply_part(&rows[5], &now);
    table.mark_unreadable(user.id);
    let seen = table.find(user).expect("it is shown");
    assert_eq!(
        (seen.balance.root.version.get(), seen.trust, table.quarantined()),
        (6, Trust::Quarantined, 1)
    );
}

/// All accounts are forgotten to be loaded anew, and what is quarantined meanwhile was whole when the watermark was taken.
#[test]
fn who_forgets_all_accounts_keeps_the_time() {
    let (mut table, now) = (Table::new(), Horizon::at(NOW_US));
    table.watermark = Now { wall_us: NOW_US, monotonic_us: 7 };
    table.apply(&row(9, 1, Kind::Recharge, 10, NOW_US), &now);
    table.clear();
    assert_eq!((table.accounts(), table.version(UserId::new(9).unwrap())), (0, Version(0)));
    let second = row(9, 2, Kind::Recharge, 10, NOW_US);
    assert_eq!(table.apply(&second, &now), Outcome::Gap { ask: true });
    assert_eq!(table.whole_at(second.user_id), Some(Now { wall_us: NOW_US, monotonic_us: 7 }));
}

#[test]
fn a_seventeenth_asset_is_refused() {
    let (mut table, now) = (Table::new(), Horizon::at(NOW_US));
    for n in 0..17u8 {
        let row = Transaction {
            asset: Asset::parse(&[b'Q' - n]).unwrap(),
            ..row(3, u64::from(n) + 1, Kind::Recharge, 1, NOW_US)
        };
        let expected = if n < 16 { Outcome::Applied } else { Outcome::Defective(Defect::TooManyAssets) };
        assert_eq!(table.apply(&row, &now), expected);
    }
}

/// An account's statistics begin in the smallest block that holds them. Buckets become coarse when a block is full and no sooner: as
/// long as there is room, a clock that is set back finds what it needs.
#[test]
fn buckets_become_coarse_when_there_is_no_room_and_no_sooner() {
    let (mut table, now) = (Table::new(), Horizon::at(NOW_US));
    let later = Horizon::at(NOW_US + 5 * DAY_US);
    // Four of them old when the others come.
    let hour = |version: u64| {
        let now_us = if version <= 4 { NOW_US } else { NOW_US + 5 * DAY_US };
        row(9, version, Kind::Recharge, 1, now_us - version as i64 * HOUR_US)
    };
    let seen = |table: &Table| {
        let found = table.find(hour(1).user_id.hashed()).unwrap();
        (found.account.statistics_bytes(&table.blocks), now.is_within(table.exact(found)))
    };
    let bytes: Vec<usize> = (1..=4)
        .map(|version| {
            assert_eq!(table.apply(&hour(version), &now), Outcome::Applied);
            seen(&table).0
        })
        .collect();
    // A header of 24, totals of 20, and 16 a bucket; and no block of 112.
    assert_eq!(bytes, [64, 80, 96, 128]);
    assert_eq!(table.apply(&hour(5), &later), Outcome::Applied);
    assert_eq!(seen(&table), (128, true), "there was room");
    assert_eq!(table.apply(&hour(6), &later), Outcome::Applied);
    assert!(
        !seen(&table).1,
        "hours are merged into days, and by the clock of before the windows cannot be told"
    );
    // Four hours have become one day, and nothing of them is counted twice.
    let [.., buckets, _, _] = table.parts();
    assert_eq!(buckets, 3 * 16);
}

/// What growth has left to do is done by pieces, between which each account is found; and whoever walks meets all of them.
#[test]
fn a_table_that_grows_says_so_until_it_is_done_and_shows_everybody() {
    let (mut table, now) = (Table::new(), Horizon::at(NOW_US));
    let mut user = 0;
    while !table.is_growing() {
        assert!(user < 100_000, "it has to grow");
        table.apply(&row(user, 1, Kind::Recharge, 1, NOW_US), &now);
        user += 1;
    }
    let mut pieces = 0;
    while table.is_growing() {
        assert!(pieces < 10_000, "and to come to an end");
        table.go_on_growing();
        pieces += 1;
        let id = UserId::new(pieces % user).unwrap();
        assert_eq!(table.version(id), Version(1));
    }
    let (mut walk, mut met) = (Walk::new(), Vec::new());
    while !walk.is_over() {
        let before = met.len();
        table.walk_users(&mut walk, 40, |user| met.push(user.get()));
        assert!(met.len() > before || walk.is_over(), "it gets on");
        assert!(met.len() - before < 40 + 2 * 16, "a few more than were asked for");
    }
    met.sort_unstable();
    assert_eq!(met, (0..user).collect::<Vec<_>>());
    walk.begin();
    table.walk_users(&mut walk, usize::MAX, |_| user -= 1);
    assert_eq!(user, 0, "who begins anew meets all once more");
}

/// Memory that is touched for the first time is told once: that is enough for one turn.
#[test]
fn what_growth_took_is_told_once() {
    let (mut table, now) = (Table::new(), Horizon::at(NOW_US));
    table.take_growth();
    assert!(!table.has_asked_for_memory());
    let mut user = 0;
    while !table.has_asked_for_memory() {
        assert!(user < 1_000_000, "accounts take memory");
        table.apply(&row(user, 1, Kind::Recharge, 1, NOW_US), &now);
        user += 1;
    }
    assert_ne!(
        table.index.growth().has_asked,
        table.blocks.growth().has_asked,
        "only one of the two has asked, or the sum would be true by itself"
    );
    let growth = table.take_growth();
    assert!(growth.has_asked && growth.has_worked && growth.has_chores);
    assert!(!table.has_asked_for_memory() && !table.take_growth().has_worked);
}

/// A piece of a checkpoint is no longer than was asked for, but for who lies beside the last.
#[test]
fn a_walk_stops_where_it_is_to() {
    let (mut table, now) = (Table::new(), Horizon::at(NOW_US));
    (0..1_000).for_each(|user| {
        assert_eq!(table.apply(&row(user, 1, Kind::Recharge, 1, NOW_US), &now), Outcome::Applied)
    });
    let mut walk = Walk::new();
    assert_eq!(table.walk(&mut walk, 0, &mut Vec::new()), 0);
    let mut full = alloc::vec![0; CHECKPOINT_PIECE_BYTES];
    assert_eq!((table.walk(&mut walk, 40, &mut full), full.len()), (0, CHECKPOINT_PIECE_BYTES));
    table.walk_users(&mut walk, 0, |user| panic!("{user} was not asked for"));
    let mut out = Vec::new();
    let mut written = 0;
    while !walk.is_over() {
        written += table.walk(&mut walk, 40, &mut out);
    }
    assert_eq!(written, 1_000);
}

/// All that is counted as held by accounts is, and is given back with them.
#[test]
fn where_the_bytes_go_is_known_and_adds_up() {
    let (mut table, now) = (Table::new(), Horizon::at(NOW_US));
    for version in 1..=30 {
        for user in 0..500 {
            // Some of them wide, some rolled.
            let amount = if user % 50 == 0 { 1 << 35 } else { 7 };
            let at = NOW_US - (version as i64 * 40) * HOUR_US;
            let row = Transaction {
                asset: asset(version as usize % 3),
                ..row(user, version, Kind::Recharge, amount, at)
            };
            assert_eq!(table.apply(&row, &now), Outcome::Applied);
        }
    }
    let [index, balances, headers, lifetimes, buckets, slack, free] = table.parts();
    assert_eq!(index + balances + headers + lifetimes + buckets + slack + free, table.bytes());
    assert_eq!((balances, headers), (500 * (8 + 32 + 3 * 24), 500 * 24));
    assert_eq!(lifetimes, 490 * 3 * 20 + 10 * 3 * 40);
    let Table { index, mut blocks, .. } = table;
    let mut handles = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        next = index.walk(from, &mut handles);
    }
    for &balance in &handles {
        let before = (blocks.used, blocks.live_bytes());
        let copy = Account { balance }.copy(&mut blocks);
        assert!(blocks.used.balances > before.0.balances && blocks.used.headers > before.0.headers);
        copy.free(&mut blocks);
        assert_eq!((blocks.used, blocks.live_bytes()), before);
    }
    handles.into_iter().for_each(|balance| Account { balance }.free(&mut blocks));
    assert_eq!((blocks.used, blocks.live_bytes()), (Used::default(), 0));
}

#[test]
fn every_account_is_found_and_strangers_are_not() {
    let (mut table, now) = (Table::new(), Horizon::at(NOW_US));
    for user in 0..100_000 {
        table.apply(&row(user * 3, 1, Kind::Recharge, 1, NOW_US), &now);
    }
    assert_eq!(table.accounts(), 100_000);
    for user in 0..300_000 {
        let found = look_up(&table, UserId::new(user).unwrap().hashed());
        assert_eq!(found.is_some(), user % 3 == 0);
    }
}

/// By its passes, as lookups go.
fn look_up(table: &Table, user: HashedUser) -> Option<Found<'_>> {
    table.prefetch(user);
    let guess = table.guess(user);
    table.prefetch_statistics(guess);
    let found = table.confirm(user, guess);
    assert_eq!(found.is_some(), table.look_closely(user) != Guess::NOBODY);
    found
}

/// Users of the lowest ids whose hashes have the same lower half: what the index cannot tell apart.
fn users_of_one_tag() -> Vec<HashedUser> {
    let mut users: BTreeMap<u32, Vec<HashedUser>> = BTreeMap::new();
    for user in (0..300_000).map(|user| UserId::new(user).unwrap().hashed()) {
        users.entry(user.hash() as u32).or_default().push(user);
    }
    users.into_values().filter(|alike| alike.len() > 1).flatten().collect()
}

#[test]
fn users_of_the_same_tag_are_told_apart_by_their_records() {
    let now = Horizon::at(NOW_US);
    let alike = users_of_one_tag();
    assert!(alike.len() >= 4, "{alike:?}");
    for pair in alike.chunks(2) {
        let mut table = Table::new();
        for others in 0..1_000 {
            table.apply(&row(1_000_000 + others, 1, Kind::Recharge, 1, NOW_US), &now);
        }
        table.apply(&row(pair[0].id.get(), 1, Kind::Recharge, 7, NOW_US), &now);
        assert!(look_up(&table, pair[1]).is_none(), "a stranger is not taken for {pair:?}");
        table.apply(&row(pair[1].id.get(), 1, Kind::Recharge, 8, NOW_US), &now);
        for (user, amount) in pair.iter().zip([7, 8]) {
            let Found { balance, .. } = look_up(&table, *user).unwrap();
            assert_eq!(
                (balance.root.user_id.get(), balance.rows[0].available.get()),
                (user.id.get(), amount)
            );
        }
    }
}

#[test]
fn user_0_is_a_stranger_until_it_has_an_account() {
    let (user_0, now) = (UserId::new(0).unwrap().hashed(), Horizon::at(NOW_US));
    for others in (0..=760).step_by(40) {
        let mut table = Table::new();
        for user in 1..=others {
            table.apply(&row(user, 1, Kind::Recharge, 1, NOW_US), &now);
        }
        assert!(look_up(&table, user_0).is_none(), "beside {others} others");
        table.apply(&row(0, 1, Kind::Recharge, 1, NOW_US), &now);
        let found = look_up(&table, user_0).expect("user 0 has an account now");
        assert_eq!(found.balance.root.user_id.get(), 0, "beside {others} others");
    }
}
