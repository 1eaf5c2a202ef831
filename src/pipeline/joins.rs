//! Which pod, container or process is of which version. Much telemetry names no service: node agents, database
//! clients and runtimes know the pod they speak of and nothing else. What names both (nearly always spans) is
//! remembered here, so that the rest reaches the version it belongs to.
//!
//! An id that two versions claim joins nothing until one of them has been silent for [`SILENT_S`]; then the
//! other has it: names of pods are given again. A claim by spans goes before those of other signals, whose
//! service name often comes from labels rather than from the service itself.
//!
//! Bounded: at most [`Joins::CAPACITY`] ids, about 200 bytes each. Each shard has two generations; when the
//! young one is full the old one is forgotten. An id that is claimed or asked for moves to the young one, so
//! that what is in use stays. Nothing of it outlives the process: a minute of spans brings it back.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;

use super::registry::{clip, lock};
use crate::model::{
    InstanceId, NANOS_PER_SECOND, ResourceAttribute, ResourceTexts, ResourceView, UnixNanos, VersionId,
};

/// Seconds without a claim after which another version may have an id.
pub(super) const SILENT_S: u64 = 120;
/// Seconds without a claim after which an id joins nothing.
const FORGOTTEN_S: u64 = 3_600;
/// Seconds without a claim after which an instance does not share an id any more: twice the longest export interval.
const SHARED_S: u64 = 600;
/// Longest id that is told apart.
const ID_BYTES: usize = 256;
const SHARDS: usize = 16;

/// What was asked of the table and what it dropped. Monotone.
#[derive(Debug, Default)]
pub struct JoinCounters {
    /// Resources that reached a version by one of their ids.
    pub joined: AtomicU64,
    /// Resources whose ids are claimed by several versions, or by a service of another name.
    pub ambiguous: AtomicU64,
    /// Resources none of whose ids is known.
    pub unknown: AtomicU64,
    /// Ids forgotten for lack of room.
    pub evicted: AtomicU64,
}

impl JoinCounters {
    /// Look-ups that were joined, ambiguous, unknown.
    pub fn outcomes(&self) -> [u64; 3] {
        [&self.joined, &self.ambiguous, &self.unknown].map(|n| n.load(Ordering::Relaxed))
    }
}

/// Who claims an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) version: VersionId,
    pub(super) instance: InstanceId,
    /// Whether it comes from spans.
    pub(super) by_spans: bool,
    pub(super) at: UnixNanos,
}

/// What the ids of a resource lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// One version, and its instance where the id has only one.
    One(VersionId, InstanceId),
    /// Several versions.
    Several,
    /// Nothing.
    None,
}

/// An id: who has it, and who else claims it.
#[derive(Debug, Clone, Copy)]
struct Link {
    owner: Claim,
    /// When an older instance of the owner than the one that it names claimed last; 0 for never. Several that live at a
    /// time are processes of one pod; one after the other they are the lives of one container.
    shared_at: UnixNanos,
    /// Whether spans named the owner's instance.
    is_named_by_spans: bool,
    rival: Option<Claim>,
}

type Generation = HashMap<Box<[u8]>, Link, RandomState>;

#[derive(Debug, Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

/// The table.
#[derive(Debug)]
pub(super) struct Joins {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Ids in one generation of one shard.
    generation: usize,
    counters: JoinCounters,
}

impl Default for Joins {
    fn default() -> Self {
        Self::new(Self::CAPACITY)
    }
}

impl Joins {
    /// Most ids kept. A pod has up to five.
    pub(super) const CAPACITY: usize = 131_072;

    /// An empty table for at most `capacity` ids, at least two a shard.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            shards: Default::default(),
            hasher: RandomState::default(),
            generation: (capacity / SHARDS / 2).max(1),
            counters: JoinCounters::default(),
        }
    }

    /// What was asked and dropped.
    pub(super) fn counters(&self) -> &JoinCounters {
        &self.counters
    }

    /// Number of ids.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(lock).map(|shard| shard.young.len() + shard.old.len()).sum()
    }

    /// Remembers that the ids of `resource` belong to the claimant.
    pub(super) fn learn(
        &self,
        resource: &ResourceView<'_>,
        claim: Claim,
        is_alive: impl Fn(VersionId) -> bool,
    ) {
        each_id(resource, |id| {
            self.with(id, |shard, room| {
                if let Some(link) = shard.get(id, room, &self.counters.evicted) {
                    link.claim(claim, &is_alive);
                } else {
                    shard.insert(id, Link::new(claim), room, &self.counters.evicted);
                }
            });
        });
    }

    /// The version that the ids of `resource` belong to. The most specific id that is known to be of one
    /// version decides.
    pub(super) fn find(&self, resource: &ResourceView<'_>, now: UnixNanos) -> Found {
        let mut found = Found::None;
        each_id(resource, |id| {
            if matches!(found, Found::One(..)) {
                return;
            }
            self.with(id, |shard, room| {
                match shard.get(id, room, &self.counters.evicted).map(|link| link.owner_at(now)) {
                    None | Some(Found::None) => {}
                    Some(other) => found = other,
                }
            });
        });
        found
    }

    fn with(&self, id: &[u8], work: impl FnOnce(&mut Shard, usize)) {
        // The low bits choose within the map.
        let number = (self.hasher.hash_one(id) >> 32) as usize % SHARDS;
        work(&mut lock(&self.shards[number]), self.generation);
    }
}

impl Shard {
    fn get(&mut self, id: &[u8], room: usize, evicted: &AtomicU64) -> Option<&mut Link> {
        if !self.young.contains_key(id) {
            let (id, link) = self.old.remove_entry(id)?;
            self.insert(&id, link, room, evicted);
        }
        self.young.get_mut(id)
    }

    fn insert(&mut self, id: &[u8], link: Link, room: usize, evicted: &AtomicU64) {
        if self.young.len() >= room {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            evicted.fetch_add(forgotten.len() as u64, Ordering::Relaxed);
        }
        self.young.insert(id.into(), link);
    }
}

impl Link {
    fn new(claim: Claim) -> Self {
        let is_named_by_spans = claim.by_spans && claim.instance != InstanceId::UNKNOWN;
        Self { owner: claim, shared_at: UnixNanos(0), is_named_by_spans, rival: None }
    }

    fn claim(&mut self, claim: Claim, is_alive: impl Fn(VersionId) -> bool) {
        let owner = &mut self.owner;
        if owner.version == claim.version {
            owner.by_spans |= claim.by_spans;
            owner.at = owner.at.max(claim.at);
            self.name(claim);
            return;
        }
        let is_free = is_silent(owner, claim.at) || !is_alive(owner.version);
        if is_free || claim.by_spans && !owner.by_spans {
            *self = Self::new(claim);
        } else if claim.by_spans == owner.by_spans {
            self.rival = Some(claim);
        }
    }

    /// Takes note of the instance of a claim of the owner's version. One that is not known is no second one: the first
    /// message of a process, or its logs, may claim before there is an instance. Ids ascend, so a larger one is a new
    /// life, and a smaller one says that several live.
    fn name(&mut self, claim: Claim) {
        let named = &mut self.owner.instance;
        match (claim.by_spans, self.is_named_by_spans) {
            _ if claim.instance == InstanceId::UNKNOWN => {}
            (false, true) => {}
            (true, false) => {
                *named = claim.instance;
                (self.shared_at, self.is_named_by_spans) = (UnixNanos(0), true);
            }
            _ if *named == InstanceId::UNKNOWN || *named < claim.instance => *named = claim.instance,
            _ if *named > claim.instance => self.shared_at = self.shared_at.max(claim.at),
            _ => {}
        }
    }

    fn owner_at(&self, now: UnixNanos) -> Found {
        let owner = match self.rival.filter(|rival| !is_silent(rival, now)) {
            Some(_) if !is_silent(&self.owner, now) => return Found::Several,
            Some(rival) => rival,
            None => self.owner,
        };
        if now.since(owner.at) > FORGOTTEN_S * NANOS_PER_SECOND {
            return Found::None;
        }
        let is_shared = owner.version == self.owner.version
            && self.shared_at.0 > 0
            && now.since(self.shared_at) <= SHARED_S * NANOS_PER_SECOND;
        Found::One(owner.version, if is_shared { InstanceId::UNKNOWN } else { owner.instance })
    }
}

fn is_silent(claim: &Claim, now: UnixNanos) -> bool {
    now.since(claim.at) > SILENT_S * NANOS_PER_SECOND
}

/// Whether a resource has an id that could be in the table.
pub(super) fn has_id(texts: &ResourceTexts<'_>) -> bool {
    use ResourceAttribute::{ContainerId, InstanceId, PodName, PodUid};
    [InstanceId, ContainerId, PodUid, PodName].into_iter().any(|id| !texts.get(id).is_empty())
}

/// The ids of a resource, the most specific one first. That of an instance is unique in its service only, so
/// it counts together with the service's name; a pod's name in its namespace, but it also counts alone, for
/// those who do not say the namespace.
fn each_id(resource: &ResourceView<'_>, mut each: impl FnMut(&[u8])) {
    let texts = &resource.texts;
    let mut id = Vec::with_capacity(96);
    let mut one = |kind: u8, scope: &[u8], text: &[u8]| {
        if text.is_empty() {
            return;
        }
        id.clear();
        id.push(kind);
        id.extend_from_slice(clip(scope, ID_BYTES));
        id.push(0);
        id.extend_from_slice(clip(text, ID_BYTES));
        each(&id);
    };
    if resource.names_service() {
        one(b'i', resource.service, texts.get(ResourceAttribute::InstanceId));
    }
    one(b'c', b"", texts.get(ResourceAttribute::ContainerId));
    one(b'u', b"", texts.get(ResourceAttribute::PodUid));
    let namespace = texts.get(ResourceAttribute::K8sNamespace);
    one(b'n', namespace, texts.get(ResourceAttribute::PodName));
    if !namespace.is_empty() {
        one(b'n', b"", texts.get(ResourceAttribute::PodName));
    }
}

#[cfg(test)]
#[path = "joins_tests.rs"]
mod tests;
