//! The index against a plain map, with growth at every step.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use std::sync::OnceLock;

use florin_schema::UserId;
use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;

fn handle(number: usize) -> Handle {
    Handle::read_from_bytes(&(number as u32).to_le_bytes()).unwrap()
}

/// Users in the order of their tags: a run of them belongs into few lines, the last of them into the last line, whatever there
/// are. Some share a tag.
fn users() -> &'static [HashedUser] {
    static USERS: OnceLock<Vec<HashedUser>> = OnceLock::new();
    USERS.get_or_init(make_users)
}

fn make_users() -> Vec<HashedUser> {
    let mut users: Vec<_> = (0..200_000).map(|user| UserId::new(user).unwrap().hashed()).collect();
    users.sort_by_key(|&user| tag(user));
    let alike = users.windows(2).filter(|pair| tag(pair[0]) == tag(pair[1])).flatten();
    let spread = users.iter().step_by(400);
    let mut chosen: Vec<_> =
        alike.chain(spread).chain(&users[..300]).chain(&users[199_700..]).copied().collect();
    chosen.sort_by_key(|&user| (tag(user), user.id));
    chosen.dedup_by_key(|user| user.id);
    chosen
}

#[derive(Clone, Debug)]
enum Step {
    /// Users from this one on, so many.
    Insert(usize, usize),
    Replace(usize),
    Move(usize),
    /// Lines begin to move to so many more.
    Grow(usize),
    /// A walk begins.
    Begin,
    Walk(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let user = || prop_oneof![0..1_200_usize, 0..40_usize, 1_100..1_200_usize];
    prop_oneof![
        6 => (user(), 1..60_usize).prop_map(|(user, count)| Step::Insert(user, count)),
        2 => user().prop_map(Step::Replace),
        3 => (1..30_usize).prop_map(Step::Move),
        2 => (1..12_usize).prop_map(Step::Grow),
        1 => Just(Step::Begin),
        6 => (1..4_usize).prop_map(Step::Walk),
    ]
}

/// A walk under way, and whom it must meet, and has met.
struct Walked {
    next: Option<u32>,
    there: BTreeMap<usize, Handle>,
    met: Vec<Handle>,
}

/// A walk that is over.
fn check(Walked { there, mut met, .. }: Walked) {
    met.sort_by_key(|handle| format!("{handle:?}"));
    let all = met.len();
    met.dedup();
    assert_eq!(all, met.len(), "nobody is met twice");
    assert!(there.values().all(|handle| met.contains(handle)), "everybody is met");
}

fn look_up(index: &Index, user: HashedUser, expected: Option<Handle>) -> Option<(Place, Handle)> {
    index.prefetch(user);
    let found = index.find(user, |handle| Some(handle) == expected);
    assert_eq!(found.map(|(_, handle)| handle), expected, "{user:?}");
    if expected.is_none() {
        assert!(index.find(user, |_| false).is_none());
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn whoever_was_put_in_is_found_and_met_once_while_lines_move(
        lines in 1..9_usize,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let users = users();
        let mut index = Index::of(lines);
        let mut model: BTreeMap<usize, Handle> = BTreeMap::new();
        let mut walked: Option<Walked> = None;
        let mut handles = 0;
        let mut next_handle = || { handles += 1; handle(handles) };
        for step in steps {
            match step {
                Step::Insert(user, count) => for at in (user..user + count).filter(|&at| at < users.len()) {
                    if let Entry::Vacant(vacant) = model.entry(at) {
                        let handle = next_handle();
                        let place = index.insert(users[at], handle);
                        // Its place holds until the next insertion.
                        index.set(place, handle);
                        vacant.insert(handle);
                        look_up(&index, users[at], Some(handle));
                    }
                },
                // A walk in between has met the old one, so only where there is none.
                Step::Replace(user) => if walked.is_none() && let Some(held) = model.get_mut(&user) {
                    let (place, _) = look_up(&index, users[user], Some(*held)).unwrap();
                    *held = next_handle();
                    index.set(place, *held);
                },
                Step::Move(lines) => index.move_lines(lines),
                Step::Grow(lines) => if !index.is_moving() {
                    index.begin_to_move(index.lines.count + lines);
                },
                Step::Begin => if walked.is_none() {
                    walked = Some(Walked { next: Some(0), there: model.clone(), met: Vec::new() });
                },
                Step::Walk(pieces) => if let Some(walk) = &mut walked {
                    for _ in 0..pieces {
                        let Some(from) = walk.next else { break };
                        walk.next = index.walk(from, &mut walk.met);
                        prop_assert!(walk.next.is_none_or(|next| next > from));
                    }
                },
            }
            prop_assert_eq!(index.taken(), model.len());
            if walked.as_ref().is_some_and(|walk| walk.next.is_none()) {
                walked.take().into_iter().for_each(check);
            }
            // Each step another seventh of them, and all of these in turn.
            for (at, &user) in users.iter().enumerate().skip(index.taken() % 7).step_by(7) {
                look_up(&index, user, model.get(&at).copied());
            }
        }
        for (at, &user) in users.iter().enumerate() {
            look_up(&index, user, model.get(&at).copied());
        }
        if let Some(mut walk) = walked {
            while let Some(from) = walk.next {
                walk.next = index.walk(from, &mut walk.met);
            }
            check(walk);
        }
    }
}

/// All lines had moved in one insertion: with a million accounts a shard stood still for 20 ms.
#[test]
fn no_insertion_moves_more_than_a_few_lines() {
    let mut index = Index::of(128);
    let (mut moved_max, mut moves) = (0, 0);
    for user in (0..400_000).map(|user| UserId::new(user).unwrap().hashed()) {
        let before = index.lines.here.len();
        let was_moving = index.is_moving();
        index.insert(user, handle(1 + user.id.get() as usize));
        let ended = was_moving && !index.is_moving();
        moves += usize::from(ended);
        moved_max = moved_max.max(if ended { before } else { before - index.lines.here.len() });
    }
    assert!(moves >= 4 && moved_max < 60, "{moves} times, {moved_max} lines at once");
}

/// A line of the larger index holds users of a line that the walk has met, and of one that it has not.
#[test]
fn a_walk_goes_on_in_the_middle_of_a_line() {
    for (before, more) in [(8, 3), (5, 2), (7, 1), (16, 4)] {
        for met_before in 1..before {
            let users = (0..4 * before as u64).map(|user| UserId::new(user).unwrap().hashed());
            let mut index = Index::of(before);
            users.clone().for_each(|user| {
                index.insert(user, handle(1 + user.id.get() as usize));
            });
            let (mut met, mut next) = (Vec::new(), Some(0));
            for _ in 0..met_before {
                next = next.and_then(|from| index.walk(from, &mut met));
            }
            index.begin_to_move(before + more);
            index.move_lines(before);
            assert!(!index.is_moving());
            while let Some(from) = next {
                next = index.walk(from, &mut met);
            }
            assert_eq!(met.len(), users.count(), "{before} lines and {more}, {met_before} met before");
        }
    }
}

#[test]
fn room_is_told_of_before_it_is_needed_and_what_was_left_goes_to_others() {
    let count = 2 * LINES_PER_PAGE;
    let mut index = Index::with_room(count * USERS_PER_LINE);
    let mut users = (1..).map(|id| UserId::new(id).unwrap().hashed());
    let handle = handle(1);
    let mut add = |index: &mut Index, until: &dyn Fn(&Index) -> bool| {
        while !until(index) {
            index.insert(users.next().unwrap(), handle);
        }
    };
    add(&mut index, &|index| index.growth.has_chores);
    assert!(
        (index.taken + index.taken / (INDEX_AHEAD_PART - 2) > count * USERS_PER_LINE) && !index.is_moving()
    );
    let told = index.chores().ahead.expect("room was made").page_of(0);
    assert!(index.chores().ahead.is_none(), "it was told once");
    let bytes = index.bytes();
    assert_eq!(bytes, (count + count + count / LINES_PER_NEW) * 64);

    let has_chores = |index: &mut Index| core::mem::take(index.growth()).has_chores;
    assert!(has_chores(&mut index));
    add(&mut index, &Index::is_moving);
    assert!(!has_chores(&mut index));
    assert_eq!(index.taken, count * USERS_PER_LINE + 1);
    assert_eq!(index.moved().here.page_of(0), told);
    assert!(index.chores().left.is_none() && index.bytes() == bytes);
    add(&mut index, &|index| !index.is_moving());
    assert!(has_chores(&mut index));
    assert_eq!(index.chores().left.map(|left| left.len()), Some(0));
    assert!(index.chores().left.is_none() && index.bytes() < bytes);

    // And so it is the next time.
    add(&mut index, &|index| index.growth.has_chores);
    assert!(!index.is_moving() && index.chores().ahead.is_some());
}
