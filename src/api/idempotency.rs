//! Requests that carry an `Idempotency-Key`: a pipeline that repeats its request gets the same deployment,
//! even when that one is over by then. Remembered in memory, the latest 1,000; after a restart a repeat still
//! merges with a deployment that runs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::deployment::{Deployment, Request};

const CAPACITY: usize = 1000;
/// Longer keys are refused.
pub(super) const MAX_KEY_BYTES: usize = 255;

/// Answers by key.
#[derive(Debug, Default)]
pub(super) struct Idempotency {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    answers: HashMap<String, (Request, Arc<Deployment>)>,
    order: VecDeque<String>,
}

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Known {
    /// Never seen.
    No,
    /// Seen with the same request.
    Same(Arc<Deployment>),
    /// Seen with another request.
    Different,
}

impl Idempotency {
    pub(super) fn get(&self, key: &str, request: &Request) -> Known {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.answers.get(key) {
            None => Known::No,
            Some((seen, answer)) if seen == request => Known::Same(answer.clone()),
            Some(_) => Known::Different,
        }
    }

    pub(super) fn put(&self, key: String, request: Request, answer: Arc<Deployment>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.answers.insert(key.clone(), (request, answer)).is_none() {
            inner.order.push_back(key);
        }
        while inner.order.len() > CAPACITY {
            if let Some(oldest) = inner.order.pop_front() {
                inner.answers.remove(&oldest);
            }
        }
    }
}
