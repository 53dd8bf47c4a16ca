//! The primary's own noise: what differs between two answers of the same service at the same version.

use std::collections::BTreeMap;

use serde::Serialize;

use super::compare::{Comparison, compare};
use super::path::Path;
use super::windows;
use crate::answer::{Answer, Level};
use crate::limits::NOISE_PLACES_MAX;
use crate::request::Request;

/// What has been found so far.
#[derive(Clone, PartialEq, Eq, Serialize, Debug, Default)]
pub struct Noise {
    /// Requests that were asked of the primary twice.
    pub asked: u64,
    /// Of those, how many could be compared: the version had not moved on.
    pub compared: u64,
    /// How often each place differed.
    pub places: BTreeMap<String, u64>,
    /// Differences at places beyond those that are kept.
    pub more: u64,
}

impl Noise {
    /// Compares two answers of the primary's to one request.
    pub fn add(&mut self, request: &Request, first: &Answer, second: &Answer) {
        self.asked += 1;
        if first.body == second.body && first.status == second.status {
            self.compared += 1;
            return;
        }
        let (a, b) = (first.reading(&request.question), second.reading(&request.question));
        let is_same_version = a.level == b.level && !matches!(a.level, Level::Stale | Level::Unavailable);
        let is_batch = request.question.users().len() > 1;
        let mut comparison = Comparison::default();
        match (&a.content, &b.content) {
            // The accounts of a batch move on one by one: only a batch that is all the same is known not to have.
            _ if is_batch || !is_same_version => return,
            (Ok(a), Ok(b)) => compare(&Path::ROOT, a, b, &mut comparison),
            _ => comparison.push(&Path::ROOT, super::compare::DifferenceKind::Type, None, None),
        }
        if windows::may_have_moved(&comparison.differences, a.at.asked_us, b.at.answered_us) {
            return;
        }
        self.compared += 1;
        for difference in &comparison.differences {
            let place = difference.path.kind();
            if self.places.len() < NOISE_PLACES_MAX || self.places.contains_key(&place) {
                *self.places.entry(place).or_default() += 1;
            } else {
                self.more += 1;
            }
        }
    }
}
