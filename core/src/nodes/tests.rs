//! What the simulation cannot tell from good luck: the rules one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use florin_schema::{MapNode, NodeId, Partitioner};
use proptest::collection::vec;
use proptest::prelude::*;

use super::view::{Report, Standing, View, Word};
use super::{Agreement, ByPartition, Departure, Described, Hold, Mark, Member, News, Place, Plan, Topic};
use crate::limits::{
    ABSENT_SPEAKS_US, ABSENT_UNHEARD_MAX, HEARD_LATELY_US, LEAVE_HEARD_US, LEAVE_UNHEARD_US, MAP_STANDS_US,
};

const TOPIC: Topic = Topic { partitioner: Partitioner::Murmur2, partitions: 1, standbys: 1 };

fn node(id: u64) -> MapNode {
    MapNode { id: NodeId(id), host: format!("node-{id}"), port: 7_400, tls_port: 0 }
}

fn report(id: u64, number: u64, held: Option<Standing>, assigned: &[u32]) -> Report {
    let held = held.map(|standing| (0, standing)).into_iter().collect();
    let assigned = assigned.iter().copied().collect();
    Report { node: node(id), number, is_leaving: false, has_map: true, assigned, held }
}

fn view(words: impl IntoIterator<Item = Word>) -> View {
    let mut view = View::default();
    view.hear(words);
    view
}

fn news(words: impl IntoIterator<Item = Word>, map: Option<Mark>) -> News {
    News { teller: NodeId(2), version: 1, words: words.into_iter().collect(), map }
}

fn plan(reports: impl IntoIterator<Item = Report>) -> Plan {
    let mut plan = Plan::new(&TOPIC);
    plan.update(&TOPIC, &view(reports.into_iter().map(|report| (Arc::new(report), false))), None);
    plan
}

fn keepers(plan: &Plan) -> Vec<u64> {
    let keeps = |id: &u64| plan.keeps(plan.place_of(NodeId(*id)).unwrap(), 0);
    plan.map.nodes().iter().map(|node| node.id.0).filter(keeps).collect()
}

fn claimants(plan: &Plan, since: u16) -> Vec<u64> {
    plan.claimants_since(since, 0).map(|id| id.0).collect()
}

fn owner(plan: &Plan) -> Option<u64> {
    plan.map.owner(0).map(|place| plan.map.nodes()[usize::from(place)].id.0)
}

/// Of nodes 1 to 4: who stands by where `assigned` is assigned the partition.
fn standby(assigned: u64) -> u64 {
    let of = |id| report(id, 1, None, if id == assigned { &[0] } else { &[] });
    let keepers = keepers(&plan((1..=4).map(of)));
    assert_eq!(keepers.len(), 2);
    keepers.into_iter().find(|&id| id != assigned).unwrap()
}

#[test]
fn who_has_it_keeps_it_until_owner_and_standby_are_ready_and_one_has_claimed_it_since() {
    let (assigned, stands_by) = (1, standby(1));
    let former = (2..=4).find(|&id| id != stands_by).unwrap();
    let with = |of_assigned, of_standby| {
        let of = |id| match id {
            _ if id == assigned => report(id, 1, of_assigned, &[0]),
            _ if id == stands_by => report(id, 1, of_standby, &[]),
            _ if id == former => report(id, 1, Some(Standing::Owning(4)), &[]),
            _ => report(id, 1, None, &[]),
        };
        plan((1..=4).map(of))
    };
    let (loading, ready) = (Some(Standing::Loading), Some(Standing::Ready));
    for (of_assigned, of_standby, is_kept, owns) in [
        (None, None, true, former),
        (loading, ready, true, former),
        (ready, loading, true, assigned),
        (ready, ready, true, assigned),
        (Some(Standing::Owning(3)), ready, true, assigned),
        (Some(Standing::Owning(5)), loading, true, assigned),
        (Some(Standing::Owning(5)), ready, false, assigned),
    ] {
        let plan = with(of_assigned, of_standby);
        assert_eq!(keepers(&plan).contains(&former), is_kept, "{of_assigned:?} {of_standby:?}");
        assert_eq!(owner(&plan), Some(owns), "{of_assigned:?} {of_standby:?}");
    }
}

#[test]
fn a_claim_is_above_all_that_are_known_and_is_made_once() {
    let plan =
        plan([report(1, 1, Some(Standing::Ready), &[0]), report(2, 1, Some(Standing::Owning(7)), &[])]);
    assert_eq!((plan.claim(0, 0), plan.claim(1, 0)), (Some(8), None));
    let plan = self::plan([
        report(1, 1, Some(Standing::Owning(8)), &[0]),
        report(2, 1, Some(Standing::Owning(7)), &[]),
    ]);
    assert_eq!((plan.claim(0, 0), plan.claim(1, 0)), (None, None));
    assert_eq!((claimants(&plan, 0), claimants(&plan, 1)), (vec![], vec![1]));
    let plan = self::plan([report(1, 1, Some(Standing::Ready), &[0])]);
    assert_eq!(plan.claim(0, 0), Some(1));
    assert!(claimants(&plan, 0).is_empty(), "nobody has claimed it");
    // Of two that have claimed by the same number one is the last, for everybody alike.
    let plan = self::plan([
        report(1, 1, Some(Standing::Owning(7)), &[]),
        report(2, 1, Some(Standing::Owning(7)), &[]),
    ]);
    assert_eq!((claimants(&plan, 0), claimants(&plan, 1)), (vec![2], vec![]));
}

#[test]
fn who_is_leaving_owns_only_what_nobody_else_can_and_stands_by_for_nothing() {
    let leaving = |standing| Report { is_leaving: true, ..report(1, 1, Some(standing), &[0]) };
    let with = |other| plan([leaving(Standing::Owning(3)), report(2, 1, Some(other), &[])]);
    assert_eq!(owner(&with(Standing::Loading)), Some(1));
    assert_eq!(owner(&with(Standing::Ready)), Some(2));
    assert_eq!(with(Standing::Ready).claim(1, 0), Some(4));
    let gone_from_group =
        Report { assigned: ByPartition::default(), held: ByPartition::default(), ..leaving(Standing::Ready) };
    assert_eq!(keepers(&plan([gone_from_group, report(2, 1, None, &[0])])), [2]);
}

/// The next owner stood still before it had claimed the partition, and callers were told of nobody else.
#[test]
fn whoever_hands_over_is_named_until_it_lets_go() {
    let topic = Topic { standbys: 0, ..TOPIC };
    let mut plan = Plan::new(&topic);
    let words = [report(1, 1, Some(Standing::Owning(3)), &[]), report(2, 1, Some(Standing::Ready), &[0])];
    plan.update(&topic, &view(words.map(|report| (Arc::new(report), false))), None);
    assert_eq!(plan.map.holders(0).collect::<Vec<u16>>(), [1, 0]);
    assert_eq!(plan.map.without_standby(topic.standbys), 0);
}

/// Two let go of a partition for a node that was about to end, and had ended by then.
#[test]
fn nobody_relies_on_who_is_leaving() {
    let topic = Topic { standbys: 0, ..TOPIC };
    let keeps = |is_leaving, of_assigned| {
        let mut plan = Plan::new(&topic);
        let claimed = Report { is_leaving, ..report(1, 1, Some(Standing::Owning(9)), &[]) };
        let all =
            [claimed, report(2, 1, Some(Standing::Owning(2)), &[]), report(3, 1, Some(of_assigned), &[0])];
        plan.update(&topic, &view(all.map(|report| (Arc::new(report), false))), None);
        assert_eq!(keepers(&plan).contains(&2), claimants(&plan, 1).is_empty());
        keepers(&plan).contains(&2)
    };
    assert!(!keeps(false, Standing::Owning(1)));
    assert!(keeps(true, Standing::Owning(1)) && keeps(true, Standing::Ready));
    assert!(!keeps(true, Standing::Owning(10)), "who stays has claimed it");
}

#[test]
fn who_came_while_the_group_was_asked_is_not_gone() {
    let first = (Arc::new(report(1, 1, None, &[])), false);
    let (mut view, known) = (view([first.clone()]), view([first.clone()]));
    assert!(view.hear([(Arc::new(report(2, 1, None, &[])), false)]));
    assert!(view.describe(&BTreeSet::new(), &known));
    assert_eq!((view.has(NodeId(1)), view.has(NodeId(2))), (false, true));
    assert!(!view.describe(&BTreeSet::new(), &known), "it is no news");
    // What is told of one that is gone brings it back only if it has said more since.
    assert!(!view.hear([first]));
    assert!(view.hear([(Arc::new(report(1, 2, None, &[])), false)]));
    assert!(view.has(NodeId(1)));
}

/// A node of whom others had said that it was gone stayed so for one that it did not know of, and never told anything else.
#[test]
fn who_speaks_of_itself_is_there_and_hearsay_of_it_is_not_enough() {
    let word = |id, number| (Arc::new(report(id, number, None, &[])), false);
    let gone = |id, number| (word(id, number).0, true);
    let mut view = view([gone(1, 5), gone(2, 5), gone(3, 5)]);
    assert!(view.hear_from(NodeId(1), [word(1, 5), word(2, 5)]));
    assert_eq!((view.has(NodeId(1)), view.has(NodeId(2))), (true, false));
    assert!(!view.hear_from(NodeId(2), [word(2, 4)]), "it was said before");
    assert!(!view.hear_from(NodeId(3), [gone(3, 5)]));
    assert!(!view.has(NodeId(2)) && !view.has(NodeId(3)));
}

#[test]
fn of_two_lives_at_one_place_the_later_is_there() {
    let at = |id, number, tls_port| {
        let node = MapNode { tls_port, ..node(1) };
        (Arc::new(Report { node: MapNode { id: NodeId(id), ..node }, ..report(1, number, None, &[]) }), false)
    };
    let one_place = view([at(5, 9, 0), at(6, 8, 0)]);
    assert_eq!((one_place.has(NodeId(5)), one_place.has(NodeId(6))), (true, false));
    let two_ports = view([at(5, 9, 0), at(6, 8, 7_443)]);
    assert_eq!(
        (two_ports.has(NodeId(5)), two_ports.has(NodeId(6))),
        (true, true),
        "two ports are two places"
    );
}

#[test]
fn an_epoch_is_above_all_that_was_heard_and_stays_where_nothing_changes() {
    let mut agreement = Agreement::new(TOPIC);
    agreement.hear(Arc::new(report(1, 1, Some(Standing::Ready), &[0])));
    agreement.settle(1_000);
    assert_eq!(agreement.map(), None, "not all were heard");
    agreement.describe(&BTreeSet::from([NodeId(1)]), &View::default(), true);
    let epoch = |agreement: &Agreement| agreement.map().unwrap().epoch;
    assert_eq!(epoch(&agreement), 1_000);
    agreement.settle(1_000 + MAP_STANDS_US);
    assert_eq!(epoch(&agreement), 1_000);
    // The same map of a later epoch is taken over as it is.
    let same = Mark { epoch: 2_000, ..agreement.mark().unwrap() };
    agreement.meet(None, [], Some(same));
    agreement.settle(1_500);
    assert_eq!(epoch(&agreement), 2_000);
    // Another of the same epoch, or a later one, is contradicted, though the clock is behind.
    let other = |epoch| Mark { epoch, digest: 7 };
    for (heard, is) in [(2_000, 2_001), (1_900, 2_001), (9_000, 9_001)] {
        agreement.meet(None, [], Some(other(heard)));
        agreement.settle(1_500);
        assert_eq!(epoch(&agreement), is);
    }
    agreement.settle(9_002 + MAP_STANDS_US);
    assert_eq!(epoch(&agreement), 9_002 + MAP_STANDS_US, "nobody may hold to a later one for longer");
}

fn described(ids: &[u64]) -> Described {
    ids.iter().map(|&id| (Place::of(&node(id)), BTreeSet::new())).collect()
}

fn describe(member: &mut Member, described: &Described) {
    let asked = member.view().clone();
    member.describe(described, &asked);
}

#[test]
fn there_is_a_map_once_all_are_heard_and_where_others_have_one_it_is_waited_for() {
    let mut member = Member::new(node(1), TOPIC, 1);
    member.turn(&ByPartition::default(), 1);
    describe(&mut member, &described(&[2]));
    assert_eq!(member.map(), None, "it is not in the group yet");
    describe(&mut member, &described(&[1, 2]));
    assert_eq!(member.map(), None, "nothing was heard of the other");
    let word = (Arc::new(report(2, 1, None, &[])), false);
    member.hear(news([word.clone()], None), 1);
    describe(&mut member, &described(&[1, 2]));
    assert_eq!(member.map(), None, "the other has a map, which knows of who has left");
    let without = Report { has_map: false, ..report(2, 2, None, &[]) };
    let mut both_new = Member::new(node(1), TOPIC, 1);
    both_new.turn(&ByPartition::default(), 1);
    both_new.hear(news([(Arc::new(without), false)], None), 1);
    describe(&mut both_new, &described(&[1, 2]));
    assert!(both_new.map().is_some());
    member.hear(news([word], both_new.mark()), 1);
    assert!(member.map().is_some());
}

#[test]
fn before_there_is_a_map_nothing_is_taken_up_but_what_is_assigned() {
    let mut member = Member::new(node(1), TOPIC, 1);
    let mut group = described(&[1, 2]);
    member.turn(&ByPartition::default(), 1);
    assert!(member.kept().is_empty());
    group.insert(Place::of(&node(1)), BTreeSet::from([0]));
    describe(&mut member, &group);
    member.turn(&ByPartition::default(), 2);
    assert_eq!((member.kept(), member.hold(0)), (&ByPartition::from([(0, ())]), Hold::Loading));
    member.turn(&ByPartition::from([(0, true)]), 3);
    assert_eq!(member.holds(), [Hold::Ready]);
}

#[test]
fn who_is_not_described_is_there_for_as_long_as_it_speaks() {
    let mut member = Member::new(node(1), TOPIC, 1);
    member.turn(&ByPartition::default(), 1);
    let hear = |member: &mut Member, number| {
        member.hear(news([(Arc::new(report(2, number, None, &[])), false)], None), 1);
    };
    hear(&mut member, 1);
    for number in 2..9 {
        (0..ABSENT_UNHEARD_MAX).for_each(|_| describe(&mut member, &described(&[1])));
        assert!(member.view().has(NodeId(2)), "{number}");
        hear(&mut member, number);
    }
    (0..=ABSENT_UNHEARD_MAX).for_each(|_| describe(&mut member, &described(&[1])));
    assert!(!member.view().has(NodeId(2)));
}

#[test]
fn who_is_not_described_speaks_again_and_who_is_does_not() {
    let mut member = Member::new(node(1), TOPIC, 1);
    let number = |member: &Member| member.view().report(NodeId(1)).unwrap().number;
    member.turn(&ByPartition::default(), 1);
    member.turn(&ByPartition::default(), ABSENT_SPEAKS_US);
    assert_eq!(number(&member), 1);
    member.turn(&ByPartition::default(), 1 + ABSENT_SPEAKS_US);
    assert_eq!(number(&member), 2);
    describe(&mut member, &described(&[1]));
    member.turn(&ByPartition::default(), 2 + ABSENT_SPEAKS_US);
    let before = number(&member);
    member.turn(&ByPartition::default(), 9 * ABSENT_SPEAKS_US);
    assert_eq!(number(&member), before);
    // Somebody believes that it is gone.
    let gone = (Arc::clone(member.view().report(NodeId(1)).unwrap()), true);
    member.hear(news([gone], None), 1);
    assert!(!member.view().has(NodeId(1)));
    member.turn(&ByPartition::default(), 9 * ABSENT_SPEAKS_US);
    assert_eq!(number(&member), before + 1);
}

/// A member 1 that is about to end, and what it hears of 2.
struct Leaving {
    member: Member,
    number: u64,
    now_us: u64,
}

impl Leaving {
    fn hear(&mut self, change: impl Fn(&mut Report)) {
        self.number += 1;
        let mut said = report(2, self.number, None, &[]);
        change(&mut said);
        self.member.hear(news([(Arc::new(said), false)], None), self.now_us);
        describe(&mut self.member, &described(&[1, 2]));
        self.turn();
    }

    fn turn(&mut self) {
        self.member.turn(&ByPartition::from([(0, true)]), self.now_us);
    }

    /// So long goes by, µs, and it does not stand still.
    fn wait(&mut self, us: u64) {
        let end = self.now_us + us;
        while self.now_us < end {
            self.now_us = end.min(self.now_us + LEAVE_HEARD_US / 5);
            self.turn();
        }
    }

    /// What it does at once, and once everybody has had time to hear.
    fn does(&mut self) -> [Departure; 2] {
        let at_once = self.member.departure(self.now_us);
        self.wait(LEAVE_HEARD_US);
        [at_once, self.member.departure(self.now_us)]
    }
}

#[test]
fn a_node_ends_once_all_that_it_has_was_claimed_and_leaves_the_group_once_all_know() {
    let mut one = Leaving { member: Member::new(node(1), TOPIC, 1), number: 0, now_us: 1 };
    describe(&mut one.member, &described(&[1, 2]));
    one.turn();
    one.hear(|_| {});
    assert_eq!(one.does(), [Departure::Stay; 2], "nobody has told it to end");
    one.member.leave(one.now_us);
    one.turn();
    one.hear(|said| said.has_map = false);
    assert_eq!(one.does(), [Departure::Stay; 2], "the other does not know of it");
    one.hear(|_| {});
    assert_eq!(one.does(), [Departure::LeaveGroup; 2]);
    one.hear(|said| said.held = [(0, Standing::Ready)].into_iter().collect());
    assert_eq!(one.does(), [Departure::LeaveGroup; 2], "it is not claimed");
    one.hear(|said| said.held = [(0, Standing::Owning(9))].into_iter().collect());
    assert_eq!(one.does(), [Departure::Stay, Departure::End]);
    one.hear(|said| said.held = [(0, Standing::Ready)].into_iter().collect());
    assert_eq!(one.does(), [Departure::LeaveGroup; 2], "whoever has claimed it has another life");
}

#[test]
fn whoever_is_told_to_end_at_once_leaves_time_for_those_that_stand_by() {
    let mut one = Leaving { member: Member::new(node(1), TOPIC, 1), number: 0, now_us: 1 };
    describe(&mut one.member, &described(&[1, 2]));
    one.hear(|said| said.held = [(0, Standing::Ready)].into_iter().collect());
    one.member.leave(one.now_us);
    one.turn();
    assert_eq!(one.does(), [Departure::Stay, Departure::LeaveGroup]);
}

#[test]
fn the_last_node_ends_and_is_not_the_last_while_one_is_unheard() {
    let mut one = Leaving { member: Member::new(node(1), TOPIC, 1), number: 0, now_us: 1 };
    describe(&mut one.member, &described(&[1, 2]));
    one.turn();
    one.member.leave(one.now_us);
    one.turn();
    assert_eq!(one.does(), [Departure::Stay; 2], "nothing was heard of the other");
    one.hear(|said| said.is_leaving = true);
    assert_eq!(one.does(), [Departure::Stay, Departure::End]);
    one.hear(|_| {});
    assert_eq!(one.does(), [Departure::LeaveGroup; 2]);
}

/// A node let go of a partition for one that had ended, and of which it had only heard.
#[test]
fn who_lets_go_has_heard_lately_from_the_one_that_has_it_itself() {
    let mut member = Member::new(node(1), Topic { standbys: 0, ..TOPIC }, 1);
    let mut group = described(&[1, 2]);
    group.insert(Place::of(&node(1)), BTreeSet::from([0]));
    describe(&mut member, &group);
    (1..4).for_each(|now_us| member.turn(&ByPartition::from([(0, true)]), now_us));
    let moved = described(&[1, 2]);
    let owning = (Arc::new(report(2, 1, Some(Standing::Owning(9)), &[0])), false);
    let told = |teller, words: Vec<Word>| News { teller: NodeId(teller), ..news(words, None) };
    let mut hear = |news, asked_us| {
        member.hear(news, asked_us);
        describe(&mut member, &moved);
        (0..2).for_each(|_| member.turn(&ByPartition::from([(0, true)]), HEARD_LATELY_US));
        member.kept().has(0)
    };
    assert!(hear(told(3, vec![owning]), HEARD_LATELY_US), "another says so");
    assert!(hear(told(2, Vec::new()), 0), "it was asked too long ago");
    assert!(!hear(told(2, Vec::new()), 1));
}

/// A node ended as the last of its group: it took the word of a former life for that of the one that had just come there.
#[test]
fn the_last_node_has_heard_that_the_others_end_since_it_is_to_end_itself() {
    let mut one = Leaving { member: Member::new(node(1), TOPIC, 1), number: 0, now_us: 1 };
    describe(&mut one.member, &described(&[1, 2]));
    one.hear(|said| said.is_leaving = true);
    one.now_us += 1;
    one.member.leave(one.now_us);
    one.turn();
    describe(&mut one.member, &described(&[1, 2]));
    assert_eq!(one.does(), [Departure::Stay; 2], "it was told before");
    one.hear(|said| said.is_leaving = true);
    assert_eq!(one.does(), [Departure::Stay, Departure::End]);
}

/// A node that was told to end as another came ended as the last of its group: what it knew of the group was older than that.
#[test]
fn the_last_node_ends_once_the_group_was_described_since_it_was_told_to() {
    let leaving = || {
        let mut one = Leaving { member: Member::new(node(1), TOPIC, 1), number: 0, now_us: 1 };
        one.turn();
        describe(&mut one.member, &described(&[1]));
        one.member.leave(one.now_us);
        let asked = one.member.view().clone();
        one.turn();
        one.member.describe(&described(&[1]), &asked);
        one
    };
    let mut one = leaving();
    assert_eq!(one.does(), [Departure::Stay; 2], "the group was asked before");
    describe(&mut one.member, &described(&[1]));
    one.turn();
    assert_eq!(one.does(), [Departure::Stay, Departure::End]);
    let mut one = leaving();
    describe(&mut one.member, &described(&[1, 2]));
    one.turn();
    assert_eq!(one.does(), [Departure::Stay; 2], "another has come");
    let mut one = leaving();
    one.wait(LEAVE_UNHEARD_US);
    assert_eq!(one.does(), [Departure::Stay, Departure::End], "nobody describes the group");
    // One that stood still as it was about to end has to look again.
    let mut one = leaving();
    describe(&mut one.member, &described(&[1]));
    one.turn();
    one.now_us += LEAVE_UNHEARD_US;
    one.turn();
    assert_eq!(one.does(), [Departure::Stay; 2], "it knows nothing of what came meanwhile");
    describe(&mut one.member, &described(&[1]));
    one.turn();
    assert_eq!(one.does(), [Departure::Stay, Departure::End]);
}

#[test]
fn what_is_loaded_and_others_own_callers_are_sent_on_for() {
    let mut member = Member::new(node(1), TOPIC, 1);
    member.turn(&ByPartition::default(), 1);
    let mut group = described(&[1, 2]);
    group.insert(Place::of(&node(1)), BTreeSet::from([0]));
    describe(&mut member, &group);
    member.turn(&ByPartition::from([(0, false)]), 2);
    assert_eq!(member.hold(0), Hold::Loading, "there is no map");
    let owning = Report { has_map: false, ..report(2, 1, Some(Standing::Owning(1)), &[]) };
    member.hear(news([(Arc::new(owning), false)], None), 1);
    describe(&mut member, &group);
    member.turn(&ByPartition::from([(0, false)]), 3);
    assert_eq!((member.hold(0), member.kept()), (Hold::No, &ByPartition::from([(0, ())])));
    member.turn(&ByPartition::from([(0, true)]), 4);
    assert_eq!(member.hold(0), Hold::Ready);
}

#[test]
fn whoever_has_heard_up_to_a_version_is_told_what_is_new_since() {
    let mut member = Member::new(node(1), TOPIC, 1);
    member.turn(&ByPartition::default(), 1);
    let told = |member: &Member, since| {
        let News { version, words, .. } = member.news(since);
        (version, words.iter().map(|(report, is_gone)| (report.node.id.0, *is_gone)).collect::<Vec<_>>())
    };
    let word = |id, number| (Arc::new(report(id, number, None, &[])), false);
    let (first, all) = told(&member, 0);
    assert_eq!(all, [(1, false)]);
    assert_eq!(told(&member, first), (first, Vec::new()));
    member.hear(news([word(2, 5), word(3, 5)], None), 1);
    let (second, new) = told(&member, first);
    assert_eq!(new, [(2, false), (3, false)]);
    // What was known is no news, by whomever it is told.
    member.hear(news([word(2, 5), word(3, 4)], None), 1);
    assert_eq!(told(&member, second), (second, Vec::new()));
    // That one is gone is.
    member.hear(news([(word(2, 5).0, true)], None), 1);
    assert_eq!(told(&member, second).1, [(2, true)]);
    // Of two lives at one place the former's end is news as well.
    let later = Report { node: MapNode { id: NodeId(4), ..node(3) }, ..report(4, 6, None, &[]) };
    member.hear(news([(Arc::new(later), false)], None), 1);
    assert_eq!(told(&member, second + 1).1, [(3, true), (4, false)]);
    assert_eq!(told(&member, 0).1.len(), 4);
}

/// What is said: by whom, of which partitions how each stands and whether it is assigned, whether it leaves, whether it is gone.
type Step = (u64, Vec<(u32, u8, bool)>, bool, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let said = vec((0..4_u32, 0..5_u8, any::<bool>()), 0..5);
    vec((1..9_u64, said, any::<bool>(), proptest::bool::weighted(0.1)), 1..40)
}

proptest! {
    #[test]
    fn what_is_said_of_partitions_differs_as_maps_do(
        one in vec((0..9_u32, 0..3_u8), 0..12),
        two in vec((0..9_u32, 0..3_u8), 0..12),
    ) {
        let said = |all: &[(u32, u8)]| -> (ByPartition<u8>, BTreeMap<u32, u8>) {
            (all.iter().copied().collect(), all.iter().copied().collect())
        };
        let ((one, one_map), (two, two_map)) = (said(&one), said(&two));
        prop_assert!(one.iter().eq(one_map.iter().map(|(&partition, of)| (partition, of))));
        prop_assert!((0..9).all(|partition| one.get(partition) == one_map.get(&partition)));
        let mut changed = Vec::new();
        one.differing(&two, &mut changed);
        let differ = (0..9).filter(|partition| one_map.get(partition) != two_map.get(partition));
        prop_assert_eq!(changed, differ.collect::<Vec<u32>>());
    }

    #[test]
    fn a_plan_that_is_kept_up_is_the_one_that_is_made_anew(steps in steps(), standbys in 0..4_usize) {
        let topic = Topic { partitions: 4, standbys, ..TOPIC };
        let (mut view, mut kept_up) = (View::default(), Plan::new(&topic));
        for ((id, said, is_leaving, is_gone), number) in steps.into_iter().zip(1..) {
            let standing = |kind| match kind {
                0 => Some(Standing::Loading),
                1 => Some(Standing::Ready),
                2 | 3 => Some(Standing::Owning(u64::from(kind) + id % 2)),
                _ => None,
            };
            let held = said.iter().filter_map(|&(partition, kind, _)| Some((partition, standing(kind)?))).collect();
            let assigned = said.iter().filter(|(.., is_assigned)| *is_assigned).map(|said| said.0).collect();
            let report = Report { held, assigned, is_leaving, ..report(id, number, None, &[]) };
            view.hear([(Arc::new(report), is_gone)]);
            kept_up.update(&topic, &view, None);
            let mut anew = Plan::new(&topic);
            anew.update(&topic, &view, None);
            prop_assert_eq!(&kept_up, &anew);
            prop_assert_eq!(kept_up.digest, kept_up.map.digest());
        }
    }
}
