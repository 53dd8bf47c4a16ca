//! Predicts every reply. For each moment at which the owner of an account may have answered it works out what the
//! answer had to be, from the rows and the events the shard had taken by then; a reply that none of these moments
//! explains is a defect. What no moment may break (a version that goes back, an `as_of` that is not true) is checked
//! on its own, whatever the moments say.

mod content;

use std::collections::BTreeMap;

use florin_core::limits::CONNECTION_WAITS_MAX;
use florin_core::shard::Principal;
use florin_schema::records::{Balance, BalanceEntry};
use florin_schema::{Opcode, Status, UserId};

use content::{
    ensure, envelope, expected_balance, has_content, has_status, has_version, hello, here, is_batch, is_ok,
    is_statistics, refusal,
};

use super::ledger::{History, Ledger};
use super::mirror::{Mirror, Moment, View};
use super::node::{Node, SERVER};
use super::reply::{Body, Outcome, Reply};
use super::request::{Ask, Format, Freshness, Request, http_code};

pub type Verdict = Result<(), String>;

/// What was known when a request was made, and so must hold of its answer.
#[derive(Clone, Debug, Default)]
pub struct Floors {
    versions: Vec<u64>,
    as_of_us: Vec<i64>,
    /// By user, of answers with data.
    told_us: Vec<i64>,
}

/// A request and what the simulation knows of its way.
pub struct Case<'a> {
    pub request: &'a Request,
    pub floors: &'a Floors,
    /// The shard that the connection belongs to, and whether that is a unix socket.
    pub home: usize,
    pub on_unix: bool,
    /// Who asks.
    pub principal: Principal,
    /// Steps between which it was answered.
    pub first: u64,
    pub last: u64,
    /// The ledger has come to rest, and so must the answer.
    pub at_rest: Option<AtRest>,
}

/// What an answer must be once the ledger has come to rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtRest {
    /// The clock was set so far that an account's windows may have to be read again, and nobody has asked for them since.
    MayForget,
    /// As recomputing from all rows has it.
    Whole,
}

/// What a reply says of the moment at which it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Origin {
    as_of_us: i64,
    is_quarantined: bool,
}

pub struct Auditor {
    /// The newest that any client has seen.
    versions: BTreeMap<UserId, u64>,
    as_of_us: Vec<i64>,
    /// The newest `as_of` of any data about a user.
    told_us: BTreeMap<UserId, i64>,
    /// The wall clock stands still, so that `as_of` says nothing.
    has_fixed_clock: bool,
    /// Requests made that may wait for their freshness.
    waits: usize,
    pub seen: Seen,
}

/// How often each thing worth seeing was seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen(pub BTreeMap<&'static str, u64>);

impl Seen {
    pub fn note(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }
}

impl Auditor {
    pub fn new(shards: u16, has_fixed_clock: bool) -> Auditor {
        Auditor {
            versions: BTreeMap::new(),
            as_of_us: vec![i64::MIN; usize::from(shards)],
            told_us: BTreeMap::new(),
            has_fixed_clock,
            waits: 0,
            seen: Seen::default(),
        }
    }

    /// What must hold of the answer to a request made now.
    pub fn floors(&mut self, request: &Request) -> Floors {
        self.waits += usize::from(request.freshness.wait_us() > 0);
        let version = |user| self.versions.get(user).copied().unwrap_or(0);
        let told_us = |user| self.told_us.get(user).copied().unwrap_or(i64::MIN);
        let users = request.users();
        Floors {
            versions: users.iter().map(version).collect(),
            as_of_us: self.as_of_us.clone(),
            told_us: users.iter().map(told_us).collect(),
        }
    }

    /// Judges one reply.
    pub fn check(&mut self, case: &Case<'_>, reply: &Reply, node: &Node, ledger: &Ledger) -> Verdict {
        self.note(case, reply);
        let is_draining = node.seats[case.home].draining_since_us.is_some();
        let judged = envelope(case.request, reply, is_draining).and_then(|()| match &case.request.ask {
            ask if refusal(case.principal, ask).is_some() => {
                let status = refusal(case.principal, ask).expect("it is refused");
                ensure(has_status(reply, status), || format!("{status:?} was due to {:?}", case.principal))?;
                let is_home = case.home == usize::from(reply.shard) && !reply.is_forwarded;
                ensure(is_home, || "refused by another shard".to_owned())
            }
            Ask::Hello => hello(case, reply, node),
            Ask::Ping(payload) => here(case, reply, node, Body::Text(payload.clone())),
            Ask::Invalid(_) => {
                ensure(case.home == usize::from(reply.shard), || "refused by another shard".to_owned())
            }
            Ask::Balance(user) | Ask::Statistics(user, _) => self.single(case, reply, node, ledger, *user),
            Ask::Balances(users) => self.batch(case, reply, node, ledger, users),
        });
        judged.map_err(|why| {
            let Case { request, floors, home, first, last, .. } = case;
            format!("{why}\n  {request:?}\n  asked of shard {home}, steps {first} to {last}, {floors:?}\n  {reply:?}")
        })
    }

    fn note(&mut self, case: &Case<'_>, reply: &Reply) {
        self.seen.note("replies", 1);
        for &status in Status::ALL.iter().filter(|&&status| has_status(reply, status)) {
            self.seen.note(status.name(), 1);
        }
        let has_waited = case.request.freshness.wait_us() > 0 && case.last > case.first + 3;
        let is_head = case.request.format == Format::Head;
        let facts = [
            ("forwarded", reply.is_forwarded),
            ("quarantined", reply.is_quarantined),
            ("without a first row", reply.is_quarantined && has_status(reply, Status::Unavailable)),
            ("waited and held", has_waited && is_ok(reply)),
            ("waited in vain", has_waited && has_status(reply, Status::Stale)),
            ("over HTTP", reply.id.is_none()),
            ("to HEAD", is_head),
            ("in rkyv", reply.encoding == Some(1)),
            ("batches", is_batch(case)),
            ("with statistics", matches!(reply.body, Body::Statistics(_))),
        ];
        for (name, _) in facts.into_iter().filter(|&(_, is_so)| is_so) {
            self.seen.note(name, 1);
        }
    }

    fn single(
        &mut self,
        case: &Case<'_>,
        reply: &Reply,
        node: &Node,
        ledger: &Ledger,
        user: UserId,
    ) -> Verdict {
        let owner = usize::from(user.shard(node.shards()).0);
        ensure(usize::from(reply.shard) == owner, || format!("not answered by the owner, shard {owner}"))?;
        ensure(reply.is_forwarded == (owner != case.home), || "FORWARDED is wrong".to_owned())?;
        let judge = Judge { case, node, mirror: &node.seats[owner].mirror, users: vec![user] };
        let origin = Origin { as_of_us: reply.as_of_us, is_quarantined: reply.is_quarantined };
        // Only one who would have to wait is ever shed, and only where many others of its connection, or of all, may be waiting.
        let is_shed = has_status(reply, Status::Overloaded) && self.waits > CONNECTION_WAITS_MAX as usize;
        let moments = if is_shed { judge.vain_arrivals() } else { judge.moments() };
        let explains = |moment: &Moment| {
            let Predicted { status, view, is_quarantined } = match judge.predict(moment, user) {
                _ if is_shed => Predicted { status: Status::Overloaded, view: None, is_quarantined: false },
                predicted => predicted,
            };
            // Windows that are not held for this time are told to be incomplete, whatever they hold; once the account has been
            // read again they are held, but where it cannot be.
            let may_forget = case.at_rest != Some(AtRest::Whole) || is_quarantined;
            let forgets = moment.turn.forgets && may_forget && origin.is_quarantined && is_statistics(case);
            let expected = Origin {
                as_of_us: view.map_or(moment.turn.as_of_us, |view| as_of_us(moment, &view)),
                is_quarantined: is_quarantined || view.is_some() && forgets,
            };
            has_status(reply, status)
                && origin == expected
                && view.is_none_or(|view| {
                    let history = ledger.histories.get(&user);
                    if forgets {
                        return has_version(reply, view.version);
                    }
                    has_content(case.request, reply, history, user, view.version, moment.turn.wall_us)
                })
        };
        ensure(moments.iter().any(explains), || {
            format!("no moment explains it; at each:{}", judge.describe(user))
        })?;
        let version = match (&reply.body, reply.version) {
            _ if !is_ok(reply) => None,
            (Body::Balance(balance), _) => Some(balance.version),
            (Body::Statistics(statistics), _) => Some(statistics.version),
            (_, version) => version,
        };
        // An account that is not whole tells of the time when it was; everything else, of the shard's watermark.
        if !reply.is_quarantined {
            ensure(reply.as_of_us >= case.floors.as_of_us[owner], || "as_of went back".to_owned())?;
            self.as_of_us[owner] = self.as_of_us[owner].max(reply.as_of_us);
        }
        if is_ok(reply) {
            ensure(reply.as_of_us >= case.floors.told_us[0], || "as_of of an account went back".to_owned())?;
            let told_us = self.told_us.entry(user).or_insert(i64::MIN);
            *told_us = reply.as_of_us.max(*told_us);
        }
        self.account(case, reply, ledger, Entry { index: 0, user, version })
    }

    fn batch(
        &mut self,
        case: &Case<'_>,
        reply: &Reply,
        node: &Node,
        ledger: &Ledger,
        users: &[UserId],
    ) -> Verdict {
        ensure(usize::from(reply.shard) == case.home, || "not answered by the shard asked".to_owned())?;
        let owners: Vec<usize> = users.iter().map(|user| usize::from(user.shard(node.shards()).0)).collect();
        let balances = match &reply.body {
            Body::Balances(balances) => Some(balances),
            _ => None,
        };
        if let Some(balances) = balances {
            let elsewhere = owners.iter().any(|&owner| owner != case.home);
            ensure(reply.is_forwarded == elsewhere, || "FORWARDED is wrong".to_owned())?;
            let asked =
                balances.entries.iter().map(|entry| entry.user_id).eq(users.iter().map(|user| user.get()));
            ensure(asked, || "not one entry for each user in the order asked".to_owned())?;
        } else {
            ensure(has_status(reply, Status::Unavailable), || "a batch is refused as a whole".to_owned())?;
        }
        let mut origins: Vec<Vec<Origin>> = Vec::new();
        for (owner, seat) in node.seats.iter().enumerate().filter(|(owner, _)| owners.contains(owner)) {
            let own = |index: &usize| owners[*index] == owner;
            let indexes: Vec<usize> = (0..users.len()).filter(own).collect();
            let of_owner = indexes.iter().map(|&index| users[index]).collect();
            let judge = Judge { case, node, mirror: &seat.mirror, users: of_owner };
            let mut possible: Vec<Origin> = Vec::new();
            let is_shed = |entry: &BalanceEntry| entry.status == Status::Overloaded as u8;
            if let Some(balances) = balances
                && self.waits > CONNECTION_WAITS_MAX as usize
                && indexes.iter().all(|&index| is_shed(&balances.entries[index]))
            {
                let shed = judge.vain_arrivals();
                possible.extend(
                    shed.iter()
                        .map(|moment| Origin { as_of_us: moment.turn.as_of_us, is_quarantined: false }),
                );
            }
            for moment in judge.moments() {
                let entries = indexes.iter().map(|&index| balances.map(|balances| &balances.entries[index]));
                possible.extend(judge.explains_part(&moment, entries, ledger));
            }
            ensure(!possible.is_empty(), || {
                format!("no moment of shard {owner} explains its part:{}", judge.describe(judge.users[0]))
            })?;
            possible.sort();
            possible.dedup();
            origins.push(possible);
        }
        let Some(balances) = balances else { return Ok(()) };
        let origin = Origin { as_of_us: reply.as_of_us, is_quarantined: reply.is_quarantined };
        let joined = joins(&origins, origin, Origin { as_of_us: i64::MAX, is_quarantined: false });
        ensure(joined, || format!("as_of or QUARANTINED fits no moments of the owners: {origins:?}"))?;
        for (index, (entry, &user)) in balances.entries.iter().zip(users).enumerate() {
            let version = entry.balance.as_ref().map(|balance| balance.version);
            if version.is_some() || entry.status == Status::NotFound as u8 {
                self.account(case, reply, ledger, Entry { index, user, version })?;
            }
        }
        Ok(())
    }

    /// What must hold of any answer about an account. `entry.version` is `None` where the answer holds no data.
    fn account(&mut self, case: &Case<'_>, reply: &Reply, ledger: &Ledger, entry: Entry) -> Verdict {
        let Entry { index, user, version } = entry;
        let history = ledger.histories.get(&user);
        let is_missing = version.is_none() && (is_batch(case) || has_status(reply, Status::NotFound));
        if (version.is_some() || is_missing) && !self.has_fixed_clock {
            let due = history.map_or(0, |history| history.committed_before(reply.as_of_us));
            ensure(version.unwrap_or(0) >= due, || {
                format!("as_of is not true: {user} had {due} rows by then, and {version:?} are answered")
            })?;
        }
        if let Some(version) = version {
            let floor = case.floors.versions[index];
            ensure(version >= floor, || {
                format!("the version of {user} went back from {floor} to {version}")
            })?;
            let newest = self.versions.entry(user).or_default();
            *newest = version.max(*newest);
            let is_half = !reply.is_quarantined && history.is_some_and(|h| h.ends_within_commit(version));
            ensure(!is_half, || format!("{user} is shown at {version}, in the middle of a commit"))?;
            let wanted = case.request.freshness.min_version;
            ensure(version >= wanted, || format!("{wanted} was the least version of {user} asked for"))?;
        }
        if case.at_rest.is_some() {
            let history = history.ok_or("only users of the ledger are asked for in the end")?;
            let whole = history.whole();
            ensure(whole.is_none() || version == whole, || {
                format!("{user} ends at {version:?} instead of {whole:?}")
            })?;
            let is_broken = whole.is_none() || history.defect.is_some();
            let forgets = is_statistics(case) && case.at_rest == Some(AtRest::MayForget);
            ensure(forgets || reply.is_quarantined == is_broken, || {
                "a quarantine outlives its gap, or a defect has none".to_owned()
            })?;
        }
        Ok(())
    }
}

/// One account of an answer.
struct Entry {
    index: usize,
    user: UserId,
    version: Option<u64>,
}

/// What is answered about one account.
#[derive(Clone, Copy, Debug)]
struct Predicted {
    status: Status,
    /// Where there is data.
    view: Option<View>,
    is_quarantined: bool,
}

/// What an owner may have answered, and when.
struct Judge<'a> {
    case: &'a Case<'a>,
    node: &'a Node,
    mirror: &'a Mirror,
    /// Its users, among those that are asked for.
    users: Vec<UserId>,
}

impl Judge<'_> {
    fn freshness(&self) -> &Freshness {
        &self.case.request.freshness
    }

    /// The moments at which the owner may have answered. Without `wait_ms` that is before it takes in its feed, in any
    /// turn; with it, the first moment after its arrival at which the freshness holds, or the first at which the time
    /// is up.
    fn moments(&self) -> Vec<Moment> {
        let all: Vec<Moment> = self.mirror.moments(self.case.first, self.case.last).collect();
        let wait_us = self.freshness().wait_us();
        if wait_us == 0 {
            return all.into_iter().filter(|moment| !moment.is_after).collect();
        }
        let mut next_holds = vec![all.len(); all.len() + 1];
        for index in (0..all.len()).rev() {
            let holds = all[index].is_after && self.holds(&all[index]);
            next_holds[index] = if holds { index } else { next_holds[index + 1] };
        }
        let mut answered = Vec::new();
        for (arrival, moment) in all.iter().enumerate().filter(|(_, moment)| !moment.is_after) {
            if self.holds(moment) {
                answered.push(arrival);
                continue;
            }
            let deadline_us = moment.turn.monotonic_us + wait_us;
            let is_early = |moment: &Moment| !moment.is_after || moment.turn.monotonic_us < deadline_us;
            let late =
                arrival + all[arrival..].partition_point(|moment| moment.turn.monotonic_us < deadline_us);
            let late = (late..all.len()).find(|&index| !is_early(&all[index])).unwrap_or(all.len());
            answered.push(next_holds[arrival].min(late));
        }
        answered.sort_unstable();
        answered.dedup();
        answered.into_iter().filter_map(|index| all.get(index).copied()).collect()
    }

    /// The moments at which it may have arrived and could not be answered at once.
    fn vain_arrivals(&self) -> Vec<Moment> {
        let all = self.mirror.moments(self.case.first, self.case.last);
        let may_wait = self.freshness().wait_us() > 0;
        all.filter(|moment| may_wait && !moment.is_after && !self.holds(moment)).collect()
    }

    fn is_unavailable(&self, moment: &Moment) -> bool {
        moment.turn.taken_us == 0 || moment.age_us() > self.node.max_staleness_us || moment.turn.refuses
    }

    fn is_young(&self, moment: &Moment, user: UserId) -> bool {
        let max_age_ms = self.freshness().max_age_ms;
        let age_us = match self.mirror.view(user, moment.events()) {
            Some(View { quarantined: true, whole_at: (_, taken_us), .. }) => match taken_us {
                0 => u64::MAX,
                _ => moment.turn.monotonic_us - taken_us.min(moment.turn.monotonic_us),
            },
            _ => moment.age_us(),
        };
        max_age_ms == 0 || age_us <= u64::from(max_age_ms) * 1_000
    }

    fn has_version(&self, moment: &Moment, user: UserId) -> bool {
        let version = self.mirror.view(user, moment.events()).map_or(0, |view| view.version);
        version >= self.freshness().min_version
    }

    fn holds(&self, moment: &Moment) -> bool {
        let is_young = |user| {
            self.freshness().max_age_ms == 0 || !self.is_unavailable(moment) && self.is_young(moment, user)
        };
        self.users.iter().all(|&user| is_young(user) && self.has_version(moment, user))
    }

    /// The answer about `user` at `moment`.
    fn predict(&self, moment: &Moment, user: UserId) -> Predicted {
        let without_data = |status| Predicted { status, view: None, is_quarantined: false };
        if self.is_unavailable(moment) {
            return without_data(Status::Unavailable);
        }
        if !self.is_young(moment, user) || !self.has_version(moment, user) {
            return without_data(Status::Stale);
        }
        match self.mirror.view(user, moment.events()) {
            None => without_data(Status::NotFound),
            // Its first row is missing: there is nothing to show.
            Some(View { version: 0, .. }) => {
                Predicted { is_quarantined: true, ..without_data(Status::Unavailable) }
            }
            Some(view) => {
                Predicted { status: Status::Ok, view: Some(view), is_quarantined: view.quarantined }
            }
        }
    }

    /// Whether `moment` explains the entries of the owner's users (`None` = the batch was refused as a whole); and
    /// then what they say of it: whether one of them is quarantined, and the oldest time that one tells of.
    fn explains_part<'a>(
        &self,
        moment: &Moment,
        entries: impl Iterator<Item = Option<&'a BalanceEntry>>,
        ledger: &Ledger,
    ) -> Option<Origin> {
        let mut origin = Origin { as_of_us: moment.turn.as_of_us, is_quarantined: false };
        for (&user, entry) in self.users.iter().zip(entries) {
            let Predicted { status, view, is_quarantined } = self.predict(moment, user);
            let Some(entry) = entry else {
                if status != Status::Unavailable || is_quarantined {
                    return None;
                }
                continue;
            };
            let version = entry.balance.as_ref().map(|balance| balance.version);
            if entry.status != status as u8
                || entry.quarantined != is_quarantined
                || version != view.map(|view| view.version)
            {
                return None;
            }
            origin.is_quarantined |= is_quarantined;
            if let (Some(balance), Some(view)) = (&entry.balance, view) {
                let history = ledger.histories.get(&user);
                if *balance != expected_balance(history, user, view.version) {
                    return None;
                }
                origin.as_of_us = origin.as_of_us.min(as_of_us(moment, &view));
            }
        }
        Some(origin)
    }

    /// What could have been answered about `user`: for the message of a failure.
    fn describe(&self, user: UserId) -> String {
        let moments = self.moments();
        let line = |moment: &Moment| format!("\n    {moment:?} {:?}", self.predict(moment, user));
        let shown = moments.iter().take(8).map(line).collect::<String>();
        format!("{shown}\n    ({} moments)", moments.len())
    }
}

/// Whether one of each owner's origins can be picked so that they join to `wanted`: the oldest watermark, and
/// quarantined if any is.
fn joins(origins: &[Vec<Origin>], wanted: Origin, joined: Origin) -> bool {
    let Some((first, rest)) = origins.split_first() else { return joined == wanted };
    first.iter().any(|origin| {
        let joined = Origin {
            as_of_us: joined.as_of_us.min(origin.as_of_us),
            is_quarantined: joined.is_quarantined || origin.is_quarantined,
        };
        joins(rest, wanted, joined)
    })
}

/// The time of which an answer with `view` tells.
fn as_of_us(moment: &Moment, view: &View) -> i64 {
    if view.quarantined { view.whole_at.0 } else { moment.turn.as_of_us }
}
