//! One request to all exporters that take its kind: room with each of them first, then the request itself. An
//! exporter without room refuses it for all, unless it is one that goes without. What is queued on disk is written in
//! between, before the request counts anywhere.

use std::sync::Arc;

use bytes::Bytes;

use super::OnFull;
use super::metrics::{Dropped, LaneMetrics};
use super::pieces::{records, share_out};
use super::queue::{Queue, Room};
use super::route::Route;
use crate::pipeline::{Appended, DataType, Downstream, Full, Metadata, Passage, Permit};

/// The way to one exporter for one kind of data.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its name; with the address where it has a queue for each.
    pub(super) exporter: Arc<str>,
    pub(super) data: DataType,
    pub(super) queue: Queue,
    pub(super) on_full: OnFull,
    /// Headers that go along.
    pub(super) metadata_keys: Vec<Box<str>>,
    pub(super) metrics: Arc<LaneMetrics>,
}

/// An exporter for one kind of data.
#[derive(Debug)]
pub(super) enum Target {
    /// One queue for all of it.
    One(Arc<Lane>),
    /// A queue for each address; the service decides.
    ByService(Route, Vec<Arc<Lane>>),
}

impl Target {
    /// The queues.
    pub(super) fn lanes(&self) -> &[Arc<Lane>] {
        match self {
            Self::One(lane) => std::slice::from_ref(lane),
            Self::ByService(_, lanes) => lanes,
        }
    }

    /// What of a message goes to which queue.
    fn shares(&self, message: &Bytes) -> Vec<(Arc<Lane>, Bytes)> {
        match self {
            Self::One(lane) => vec![(Arc::clone(lane), message.clone())],
            Self::ByService(route, lanes) => {
                let data = lanes.first().map_or(DataType::Profiles, |lane| lane.data);
                let shares = share_out(data, message, route).into_iter();
                shares.filter_map(|(to, share)| Some((Arc::clone(lanes.get(to)?), share))).collect()
            }
        }
    }

    fn may_refuse(&self) -> bool {
        self.lanes().iter().any(|lane| lane.on_full == OnFull::Refuse)
    }
}

/// All exporters.
#[derive(Debug, Default)]
pub(super) struct Fan {
    /// By kind of data.
    targets: [Vec<Arc<Target>>; 4],
    metadata_keys: Vec<Box<str>>,
}

impl Fan {
    pub(super) fn new(targets: impl IntoIterator<Item = Target>) -> Self {
        let mut fan = Self::default();
        for target in targets {
            let Some(lane) = target.lanes().first() else { continue };
            let new = lane.metadata_keys.iter().filter(|key| !fan.metadata_keys.contains(key));
            let new: Vec<_> = new.cloned().collect();
            fan.metadata_keys.extend(new);
            fan.targets[lane.data as usize].push(Arc::new(target));
        }
        for targets in &mut fan.targets {
            // Those that may refuse come first, so that a refusal leaves nothing to undo.
            targets.sort_by_key(|target| !target.may_refuse());
        }
        fan
    }
}

impl Downstream for Fan {
    fn takes(&self, data: DataType) -> bool {
        !self.targets[data as usize].is_empty()
    }

    fn metadata_keys(&self) -> &[Box<str>] {
        &self.metadata_keys
    }

    fn reserve(
        &self,
        data: DataType,
        message: &Bytes,
        metadata: &Metadata,
    ) -> Result<Option<Box<dyn Permit>>, Full> {
        let targets = &self.targets[data as usize];
        if targets.is_empty() {
            return Ok(None);
        }
        let mut places = Vec::with_capacity(targets.len());
        for target in targets {
            for (lane, share) in target.shares(message) {
                let room = lane.queue.reserve(metadata.bytes_of(&lane.metadata_keys), share.len()).ok();
                if room.is_none() && lane.on_full == OnFull::Refuse {
                    lane.metrics.refused.increment(1);
                    return Err(Full { exporter: Arc::clone(&lane.exporter) });
                }
                let target = Arc::clone(target);
                places.push(Place { target, lane, share, room, without: Dropped::QueueFull });
            }
        }
        Ok(Some(Box::new(Places { places, message: message.clone(), is_shared_out: false })))
    }
}

/// Room with every exporter that has some.
struct Places {
    places: Vec<Place>,
    /// As it was when the room was reserved.
    message: Bytes,
    /// Whether the shares are those of what is passed on, and counted.
    is_shared_out: bool,
}

struct Place {
    target: Arc<Target>,
    lane: Arc<Lane>,
    /// What of the message goes there.
    share: Bytes,
    /// `None` where the exporter goes without this request.
    room: Option<Room>,
    /// Why it does then.
    without: Dropped,
}

impl Place {
    /// What goes there.
    fn passage(&self, whole: &Passage, records: u64) -> Passage {
        Passage {
            message: self.share.clone(),
            records,
            metadata: whole.metadata.only(&self.lane.metadata_keys),
        }
    }
}

impl Places {
    /// The shares of what is passed on: of bad ids that were cut out meanwhile nothing is sent.
    fn share_out(&mut self, passage: &Passage) {
        let is_same =
            (passage.message.as_ptr(), passage.message.len()) == (self.message.as_ptr(), self.message.len());
        if self.is_shared_out || is_same {
            return;
        }
        self.is_shared_out = true;
        for place in &mut self.places {
            let shares = place.target.shares(&passage.message).into_iter();
            let mut own = shares.filter(|(lane, _)| Arc::ptr_eq(lane, &place.lane));
            match own.next() {
                Some((_, share)) => place.share = share,
                // Nothing is left for it.
                None => (place.share, place.room) = (Bytes::new(), None),
            }
        }
    }

    /// How many records each place is given; those of one exporter add up to all of them.
    fn records(&self, passage: &Passage) -> Vec<u64> {
        let mut counted = Vec::with_capacity(self.places.len());
        let mut left = passage.records;
        for (n, place) in self.places.iter().enumerate() {
            let goes_on = self.places.get(n + 1).is_some_and(|next| Arc::ptr_eq(&next.target, &place.target));
            let here = if goes_on { records(place.lane.data, &place.share).min(left) } else { left };
            left = if goes_on { left - here } else { passage.records };
            counted.push(here);
        }
        counted
    }
}

impl Permit for Places {
    fn appends(&self) -> bool {
        self.places.iter().any(|place| matches!(place.room, Some(Room::Disk(_))))
    }

    fn append<'a>(&'a mut self, passage: &'a Passage) -> Appended<'a> {
        Box::pin(async move {
            self.share_out(passage);
            let records = self.records(passage);
            let mut is_written = false;
            for (place, records) in self.places.iter_mut().zip(records) {
                let Some(room) = place.room.take_if(|room| matches!(room, Room::Disk(_))) else { continue };
                match place.lane.queue.append(room, &place.passage(passage, records)).await {
                    Ok(room) => {
                        place.room = Some(room);
                        is_written = true;
                    }
                    // Once it is on one disk it leaves, and a sender who is refused would send it again.
                    Err(_) if place.lane.on_full == OnFull::Refuse && !is_written => {
                        place.lane.metrics.refused.increment(1);
                        return Err(Full { exporter: Arc::clone(&place.lane.exporter) });
                    }
                    Err(_) => place.without = Dropped::NotWritten,
                }
            }
            Ok(())
        })
    }

    fn send(mut self: Box<Self>, passage: Passage) {
        self.share_out(&passage);
        let records = self.records(&passage);
        for (mut place, records) in self.places.into_iter().zip(records) {
            match place.room.take() {
                Some(room) => place.lane.queue.push(room, place.passage(&passage, records)),
                None => place.lane.metrics.dropped(place.without, records),
            }
        }
    }
}

#[cfg(test)]
#[path = "fan_tests.rs"]
mod tests;
