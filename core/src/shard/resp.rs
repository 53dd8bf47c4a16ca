//! RESP: replies come in the order of their commands, and yet commands that came together are answered together. GETs of this shard's
//! accounts go into the pipeline one behind the other. Where one of another shard's comes, it and the GETs behind it are gathered as
//! a batch's users are, and answered one by one.

use super::Shard;
use super::connections::{Ending, Stop};
use super::forwarding::question::{Aspect, Question};
use super::pipeline::Lookup;
use super::table::Guess;
use crate::wire::resp::{self, Chat};
use crate::wire::{Freshness, Parsed, Protocol, Query, RespVersion};

/// The shortest GET of a balance: below so many bytes there is none.
const GET_BYTES: usize = b"*2\r\n$3\r\nGET\r\n$9\r\nbalance:0\r\n".len();

impl Shard {
    /// Out of line: its room on the stack is none of the frames' loop's.
    #[inline(never)]
    pub(super) fn read_resp(&mut self, connection: u32, input: &[u8]) -> (usize, Stop) {
        if self.connections[connection].owed() > 0 {
            self.finish_lookups();
        }
        // What is owed now is others' to answer, and comes first.
        if self.connections[connection].owed() > 0 {
            return (0, Stop::Await);
        }
        let mut read = 0;
        loop {
            let session = &self.connections[connection];
            if session.is_closing() {
                return (input.len(), Stop::Ended);
            }
            let Some(Protocol::Resp(version)) = session.protocol else { unreachable!("it speaks RESP") };
            let allowed = match self.frames_allowed(connection) {
                Ok(commands) => commands,
                Err(stop) => return (read, stop),
            };
            let here = (input.len() - read) / GET_BYTES;
            let swift = self.swift_frames(connection, allowed, here);
            let (gets, bytes, is_foreign) = self.read_gets(connection, version, &input[read..], swift);
            read += bytes;
            if gets < swift && self.callers.is_some() {
                self.give_back(connection, swift - gets);
            }
            if is_foreign {
                return (read, Stop::Await);
            }
            if gets < allowed
                && let Some(stop) = self.read_command(connection, version, input, &mut read)
            {
                return (read, stop);
            }
        }
    }

    /// Reads the GETs of balances at the beginning of `input`, at most so many of them: how many there were, their bytes, and whether some
    /// of them are others' to answer, or have to wait until these have room for them.
    fn read_gets(
        &mut self,
        connection: u32,
        version: RespVersion,
        input: &[u8],
        at_most: usize,
    ) -> (usize, usize, bool) {
        let to = resp::get(version);
        let (mut gets, mut read) = (0, 0);
        // As with frames: some of them may be answered before the last is read.
        self.connections[connection].owe_usual(at_most);
        let mut is_foreign = false;
        while gets < at_most
            && let Some((user, bytes)) = resp::plain_balance(&input[read..])
        {
            let user = user.hashed();
            is_foreign = user.shard(self.responder.shards) != self.responder.index;
            if is_foreign {
                break;
            }
            let aspect = Aspect::Balance;
            self.look_up(Lookup { asker: connection, to, user, aspect, guess: Guess::NOBODY });
            gets += 1;
            read += bytes;
        }
        let session = &mut self.connections[connection];
        session.pay_usual(at_most - gets);
        session.frames += gets;
        self.responder.metrics.resp_commands.add(gets as u64);
        if is_foreign {
            let (passed_on, bytes) = self.pass_on_gets(connection, version, &input[read..], at_most - gets);
            (gets, read) = (gets + passed_on, read + bytes);
        }
        (gets, read, is_foreign)
    }

    /// Passes them on as one question; how many, and their bytes: none where a neighbour's ring has no room.
    fn pass_on_gets(
        &mut self,
        connection: u32,
        version: RespVersion,
        input: &[u8],
        at_most: usize,
    ) -> (usize, usize) {
        self.finish_lookups();
        self.users.clear();
        let mut read = 0;
        while self.users.len() < at_most
            && let Some((user, bytes)) = resp::plain_balance(&input[read..])
        {
            self.users.push(user);
            read += bytes;
        }
        let gets = self.users.len();
        let is_passed = match self.users[..] {
            [user] => self.ask(connection, resp::get(version), Freshness::default(), Question::Balance(user)),
            _ => self.gather(connection, resp::run(version), Freshness::default()),
        };
        if !is_passed {
            return (0, 0);
        }
        self.connections[connection].frames += gets;
        self.responder.metrics.resp_commands.add(gets as u64);
        (gets, read)
    }

    /// Reads one command of any kind. `None` = go on.
    fn read_command(
        &mut self,
        connection: u32,
        version: RespVersion,
        input: &[u8],
        read: &mut usize,
    ) -> Option<Stop> {
        let (request, bytes) = match resp::parse(&input[*read..], version, &mut self.users) {
            Parsed::Request(request, bytes) => (request, bytes),
            Parsed::Incomplete | Parsed::Continue => {
                self.connections[connection].least_input = resp::least_bytes(&input[*read..]);
                return Some(Stop::Incomplete);
            }
            Parsed::Rejected(rejection) => {
                self.finish_lookups();
                return self.refuse(connection, &rejection, input.len(), read);
            }
        };
        self.finish_lookups();
        if !self.is_turned_away(connection, &request) {
            if !self.handle(connection, &request) {
                self.take_back(connection, &request);
                return Some(Stop::Await);
            }
            if request.query == Query::Chat(Chat::Quit) {
                self.connections[connection].ending = Ending::Closing;
            }
        }
        self.connections[connection].frames += 1;
        self.responder.metrics.resp_commands.add(1);
        *read += bytes;
        (self.connections[connection].owed() > 0).then_some(Stop::Await)
    }
}
