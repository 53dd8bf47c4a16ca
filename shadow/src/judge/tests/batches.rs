//! Batches: each account for itself.

use super::*;

/// Whose history is incomplete is part of what an entry says: a batch that flags the wrong account was once equal to one that flags
/// the right one, for both had one flag for all.
#[test]
fn an_entrys_flag_is_its_own() {
    let single = |user: u64, is_quarantined| {
        let body = format!(
            r#"{{"user_id":"{user}","version":"5","balances":[{{"asset":"COIN","available":"10"}}]}}"#
        );
        let answer = answer(200, Some(5), &body, NOON + 50_000);
        Answer { stated: Stated { is_quarantined, ..answer.stated.clone() }, ..answer }
    };
    let flagged = |which: [bool; 2]| {
        let entry = |(user, is_flagged)| {
            let entry: String = entry(user, 5, 10);
            if is_flagged { entry.replacen(r#""OK""#, r#""OK","quarantined":true"#, 1) } else { entry }
        };
        let answer = entries(&[1, 2].into_iter().zip(which).map(entry).collect::<Vec<_>>(), NOON);
        Answer { stated: Stated { is_quarantined: true, ..answer.stated.clone() }, ..answer }
    };
    let run = |c: Answer, p_again: Vec<Answer>, c_again: Vec<Answer>| {
        let primary = std::iter::once(flagged([true, false])).chain(p_again).collect();
        let candidate = std::iter::once(c).chain(c_again).collect();
        Play::new(batch(&[1, 2]), primary, candidate).run().0
    };
    let alike = run(flagged([true, false]), vec![], vec![]);
    assert_eq!((alike.verdict, alike.reason), (Verdict::Unproven, Some(Reason::Quarantined)));
    assert_eq!(alike.accounts, [(user(2), Some(5))]);
    // Neither side is asked in vain: what it goes on saying of one account by itself decides.
    let wrong = run(flagged([true, true]), vec![], vec![single(2, true)]);
    assert_eq!((wrong.verdict, wrong.reason), (Verdict::Mismatch, Some(Reason::Flag)));
    let passing = run(flagged([true, true]), vec![], vec![single(2, false)]);
    assert_eq!(passing.accounts, [(user(2), Some(5))]);
    // An older server's flag is for all.
    let older = entries(&[entry(1, 5, 10), entry(2, 5, 10)], NOON);
    let older = Answer { stated: Stated { is_quarantined: true, ..older.stated.clone() }, ..older };
    assert_eq!(run(older, vec![], vec![single(2, false)]).accounts, [(user(2), Some(5))]);
}

#[test]
fn each_account_of_a_batch_is_judged_by_its_own_version() {
    let p = entries(&[entry(1, 5, 10), entry(2, 8, 20), entry(1, 5, 10)], NOON);
    let single = |version, coins, at_us| {
        let body = format!(
            r#"{{"user_id":"2","version":"{version}","balances":[{{"asset":"COIN","available":"{coins}"}}]}}"#
        );
        answer(200, Some(version), &body, at_us)
    };
    let run = |c: Answer, again: Vec<Answer>| {
        let candidate = std::iter::once(c).chain(again).collect();
        Play::new(batch(&[1, 2, 1]), vec![p.clone()], candidate).run()
    };
    assert_eq!(run(p.clone(), vec![]).0.bytes, ByteComparison::Identical);
    // One account is behind, and is asked by itself.
    let behind = entries(&[entry(1, 5, 10), entry(2, 7, 15), entry(1, 5, 10)], NOON);
    let (ruling, asked) = run(behind.clone(), vec![single(8, 20, NOON + 50_000)]);
    assert_eq!((ruling.verdict, ruling.versions()), (Verdict::Unproven, Some((5, 5))));
    assert_eq!(ruling.bytes, ByteComparison::Different);
    assert_eq!(asked, [(Side::Candidate, 8)]);
    let (ruling, _) = run(behind, vec![single(8, 21, NOON + 50_000)]);
    assert_eq!(ruling.verdict, Verdict::Mismatch);
    assert_eq!(ruling.differences[0].path.to_string(), "balances[1].balance.balances[COIN].available");
    // Somebody else's entry, one too few, and one unknown.
    let swapped = entries(&[entry(1, 5, 10), entry(3, 8, 20), entry(1, 5, 10)], NOON);
    assert!(run(swapped, vec![]).0.differences.iter().any(|d| d.path.to_string() == "balances[1].user_id"));
    let short = entries(&[entry(1, 5, 10), entry(2, 8, 20)], NOON);
    assert_eq!(run(short, vec![]).0.reason, Some(Reason::Missing));
    let unknown_entry = r#"{"user_id":"2","status":"NOT_FOUND"}"#.to_owned();
    let denied = entries(&[entry(1, 5, 10), unknown_entry, entry(1, 5, 10)], NOON + 300_000);
    assert_eq!(run(denied, vec![]).0.reason, Some(Reason::Status));
}
