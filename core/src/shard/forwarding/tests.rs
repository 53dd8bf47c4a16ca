//! A link's bookkeeping by itself.

use alloc::sync::Arc;

use florin_schema::{Opcode, UserId, WindowMask};

use super::peers::mesh;
use super::question::Aspect;
use super::*;
use crate::limits::{LOOKUPS_PER_BUNDLE, MESH_BUNDLES_MAX};
use crate::mesh::Parking;
use crate::wire::Format;

fn pair() -> [Forwarding; 2] {
    let parkings = [Arc::new(Parking::new()), Arc::new(Parking::new())];
    let links: Vec<_> = mesh(&parkings).into_iter().map(Forwarding::new).collect();
    links.try_into().unwrap_or_else(|_| unreachable!("two shards"))
}

fn lookup(connection: u32) -> ForeignLookup {
    ForeignLookup {
        ticket: Ticket { connection, generation: 0, bytes: 0, may_wait: false },
        to: ReplyTo { opcode: Opcode::GetStatistics, request_id: 0, format: Format::Rkyv },
        user: UserId::new(7).expect("a legal id").hashed(),
        aspect: Aspect::Statistics(WindowMask::new(15).expect("a mask")),
    }
}

const HERE: ShardIndex = ShardIndex(0);
const THERE: ShardIndex = ShardIndex(1);

/// Takes in what has come, and sends it back answered; how many lookups that were.
fn answer(there: &mut Forwarding) -> usize {
    let mut answered = 0;
    while let Some(message) = there.pop(HERE) {
        let Message::Lookups(mut bundle) = message else { panic!("a lookup, not {message:?}") };
        answered += bundle.len();
        (0..bundle.len()).for_each(|_| bundle.reply(|out| out.push(1)));
        there.found(HERE, bundle);
    }
    answered
}

fn take_back(here: &mut Forwarding) -> Vec<u32> {
    let mut askers = Vec::new();
    while let Some(message) = here.pop(THERE) {
        let Message::Found(bundle) = message else { panic!("what was found, not {message:?}") };
        askers.extend(bundle.runs().map(|run| run.lookups[0].ticket.connection));
        here.recycle(bundle);
    }
    askers
}

#[test]
fn a_link_takes_so_many_lookups_and_gives_each_back_once() {
    let [mut here, mut there] = pair();
    let (mut asked, mut came_back) = (0, Vec::new());
    for _ in 0..3 {
        while here.look_up(THERE, lookup(asked), 0) {
            asked += 1;
        }
        assert_eq!(here.outstanding(), (MESH_BUNDLES_MAX + 1) * LOOKUPS_PER_BUNDLE);
        here.flush();
        assert!(!here.holds_back(), "what stays is more than may be out");
        assert!(answer(&mut there) >= MESH_BUNDLES_MAX * LOOKUPS_PER_BUNDLE);
        came_back.extend(take_back(&mut here));
        // The rest goes with the next turn's.
        here.flush();
    }
    answer(&mut there);
    came_back.extend(take_back(&mut here));
    assert_eq!(here.outstanding(), 0);
    assert_eq!(came_back, (0..asked).collect::<Vec<_>>(), "in order, and each once");
}

#[test]
fn bundles_are_used_again() {
    let [mut here, mut there] = pair();
    let first = |forwarding: &Forwarding| forwarding.spare.first().map(Bundle::room);
    here.look_up(THERE, lookup(1), 0);
    here.flush();
    answer(&mut there);
    take_back(&mut here);
    let kept = first(&here);
    assert!(kept.is_some());
    for connection in 0..1_000 {
        assert!(here.look_up(THERE, lookup(connection), 0));
        here.flush();
        assert_eq!((answer(&mut there), take_back(&mut here)), (1, vec![connection]));
        assert_eq!((here.spare.len(), first(&here)), (1, kept));
    }
}

#[test]
fn a_neighbour_is_woken_only_for_what_was_sent() {
    let parkings = [Arc::new(Parking::new()), Arc::new(Parking::new())];
    let mut here = Forwarding::new(mesh(&parkings).remove(0));
    parkings[1].announce();
    assert!(here.look_up(THERE, lookup(1), 0));
    assert_eq!(here.next_to_wake(), None, "it is not there yet");
    here.flush();
    assert_eq!((here.next_to_wake(), here.next_to_wake()), (Some(THERE), None));
}

#[test]
fn a_batch_is_whole_with_its_last_part() {
    let [mut here, _] = pair();
    let user = |id| UserId::new(id).expect("a legal id");
    let to = ReplyTo { opcode: Opcode::GetBalances, request_id: 0, format: Format::Rkyv };
    let by_owner = [vec![user(1)], vec![user(2), user(3)]];
    let gather = here.begin_gather(to, &[user(2), user(1), user(3)], &by_owner);
    assert!(here.part_came(gather, THERE, vec![2], 20).is_none());
    let whole = here.part_came(gather, HERE, vec![1], 30).expect("that was the last part");
    assert_eq!((whole.parts, whole.as_of_us), (vec![vec![1], vec![2]], 20));
    assert_eq!(here.gathers().len(), 0);
}
