//! The addresses of an exporter, which take turns. One that cannot be reached is passed over: its requests go to
//! the next at once, for nothing of them was sent, and for a while it is only tried when no other is left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::http::Uri;

/// How long an address that could not be reached comes last.
const DOWN: Duration = Duration::from_secs(5);

/// All of an exporter's for one kind of data.
#[derive(Debug)]
pub(super) struct Addresses {
    all: Vec<Address>,
    turn: AtomicUsize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) url: Uri,
    down_until: Mutex<Option<Duration>>,
}

impl Addresses {
    pub(super) fn new(urls: Vec<Uri>) -> Self {
        let address = |url| Address { url, down_until: Mutex::default() };
        Self { all: urls.into_iter().map(address).collect(), turn: AtomicUsize::new(0) }
    }

    /// In the order in which a request is to try them: from the one whose turn it is, and those that are down last.
    pub(super) fn in_turn(&self, now: Duration) -> Vec<&Address> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.all.len().max(1);
        let (before, from) = self.all.split_at(turn.min(self.all.len()));
        let mut order: Vec<&Address> = from.iter().chain(before).collect();
        if order.len() > 1 {
            order.sort_by_cached_key(|address| address.is_down(now));
        }
        order
    }
}

impl Address {
    fn is_down(&self, now: Duration) -> bool {
        self.down_until().is_some_and(|until| now < until)
    }

    /// It could not be reached.
    pub(super) fn went_down(&self, now: Duration) {
        *self.down_until() = Some(now.saturating_add(DOWN));
    }

    fn down_until(&self) -> std::sync::MutexGuard<'_, Option<Duration>> {
        self.down_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(addresses: &Addresses, now: Duration) -> String {
        addresses.in_turn(now).iter().map(|address| address.url.host().unwrap()).collect()
    }

    #[test]
    fn they_take_turns_and_those_that_are_down_come_last() {
        let urls = ["a", "b", "c"].map(|host| format!("http://{host}:4317/").parse().unwrap());
        let addresses = Addresses::new(urls.to_vec());
        let now = Duration::from_secs(7);
        let turns: Vec<String> = (0..4).map(|_| hosts(&addresses, now)).collect();
        assert_eq!(turns, ["abc", "bca", "cab", "abc"]);
        addresses.all[2].went_down(now);
        let turns: Vec<String> = (0..3).map(|_| hosts(&addresses, now)).collect();
        assert_eq!(turns, ["bac", "abc", "abc"]);
        addresses.all.iter().for_each(|address| address.went_down(now));
        assert_eq!(hosts(&addresses, now), "bca", "there is no other");
        assert_eq!(hosts(&addresses, now + DOWN), "cab", "it has its turn again");
        assert_eq!(hosts(&Addresses::new(Vec::new()), now), "");
    }
}
