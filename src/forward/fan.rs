//! One request to all exporters that take its kind: room with each of them first, then the request itself. An
//! exporter without room refuses it for all, unless it is one that goes without. What is queued on disk is written in
//! between, before the request counts anywhere.

use std::sync::Arc;

use bytes::Bytes;

use super::OnFull;
use super::metrics::{Dropped, LaneMetrics};
use super::queue::{Queue, Room};
use crate::pipeline::{Appended, DataType, Downstream, Full, Passage, Permit};

/// The way to one exporter for one kind of data.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) exporter: Arc<str>,
    pub(super) data: DataType,
    pub(super) queue: Queue,
    pub(super) on_full: OnFull,
    /// Headers that go along.
    pub(super) metadata_keys: Vec<Box<str>>,
    pub(super) metrics: Arc<LaneMetrics>,
}

/// All lanes.
#[derive(Debug, Default)]
pub(super) struct Fan {
    /// By kind of data.
    lanes: [Vec<Arc<Lane>>; 4],
    metadata_keys: Vec<Box<str>>,
}

impl Fan {
    pub(super) fn new(lanes: &[Arc<Lane>]) -> Self {
        let mut fan = Self::default();
        for lane in lanes {
            fan.lanes[lane.data as usize].push(Arc::clone(lane));
            let new = lane.metadata_keys.iter().filter(|key| !fan.metadata_keys.contains(key));
            let new: Vec<_> = new.cloned().collect();
            fan.metadata_keys.extend(new);
        }
        for lanes in &mut fan.lanes {
            // Those that may refuse come first, so that a refusal leaves nothing to undo.
            lanes.sort_by_key(|lane| lane.on_full == OnFull::Drop);
        }
        fan
    }
}

impl Downstream for Fan {
    fn takes(&self, data: DataType) -> bool {
        !self.lanes[data as usize].is_empty()
    }

    fn metadata_keys(&self) -> &[Box<str>] {
        &self.metadata_keys
    }

    fn reserve(&self, data: DataType, message: &Bytes) -> Result<Option<Box<dyn Permit>>, Full> {
        let lanes = &self.lanes[data as usize];
        if lanes.is_empty() {
            return Ok(None);
        }
        let mut places = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let room = lane.queue.reserve(message.len()).ok();
            if room.is_none() && lane.on_full == OnFull::Refuse {
                lane.metrics.refused.increment(1);
                return Err(Full { exporter: Arc::clone(&lane.exporter) });
            }
            let without = Dropped::QueueFull;
            places.push(Place { lane: Arc::clone(lane), room, without });
        }
        Ok(Some(Box::new(Places(places))))
    }
}

/// Room with every exporter that has some.
struct Places(Vec<Place>);

struct Place {
    lane: Arc<Lane>,
    /// `None` where the exporter goes without this request.
    room: Option<Room>,
    /// Why it does then.
    without: Dropped,
}

impl Place {
    /// Writes the request where it is queued on disk; answers whether it did.
    async fn append(&mut self, passage: &Passage) -> Result<bool, ()> {
        let Some(room @ Room::Disk(_)) = self.room.take_if(|room| matches!(room, Room::Disk(_))) else {
            return Ok(false);
        };
        let metadata = passage.metadata.only(&self.lane.metadata_keys);
        let passage = Passage { metadata, ..passage.clone() };
        self.room = Some(self.lane.queue.append(room, &passage).await.map_err(|_| ())?);
        Ok(true)
    }
}

impl Permit for Places {
    fn appends(&self) -> bool {
        self.0.iter().any(|place| matches!(place.room, Some(Room::Disk(_))))
    }

    fn append<'a>(&'a mut self, passage: &'a Passage) -> Appended<'a> {
        Box::pin(async move {
            let mut is_written = false;
            for place in &mut self.0 {
                match place.append(passage).await {
                    Ok(wrote) => is_written |= wrote,
                    // Once it is on one disk it leaves, and a sender who is refused would send it again.
                    Err(()) if place.lane.on_full == OnFull::Refuse && !is_written => {
                        place.lane.metrics.refused.increment(1);
                        return Err(Full { exporter: Arc::clone(&place.lane.exporter) });
                    }
                    Err(()) => place.without = Dropped::NotWritten,
                }
            }
            Ok(())
        })
    }

    fn send(self: Box<Self>, passage: Passage) {
        for Place { lane, room, without } in self.0 {
            match room {
                Some(room) => {
                    let metadata = passage.metadata.only(&lane.metadata_keys);
                    lane.queue.push(room, Passage { metadata, ..passage.clone() });
                }
                None => lane.metrics.dropped(without, passage.records),
            }
        }
    }
}

#[cfg(test)]
#[path = "fan_tests.rs"]
mod tests;
