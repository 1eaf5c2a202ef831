//! What the logs say of a deployment, as JSON. Beside the verdict: nothing of it counted, and it says so.

use std::collections::BTreeMap;

use serde::Serialize;

use super::view::Sides;
use crate::verdict::{LogEvidence, NewException};

/// Error logs and exceptions of both versions.
#[derive(Debug, Serialize)]
pub(super) struct LogsView<'a> {
    /// Always false: outside of alpha.
    counts_in_verdict: bool,
    error_logs: Sides<u64>,
    exceptions: Sides<u64>,
    /// By what error logs are divided, and how many of it.
    per: &'static str,
    exposure: Sides<f64>,
    ratio: Option<f64>,
    ratio_low: Option<f64>,
    ratio_high: Option<f64>,
    leaning: &'static str,
    /// Whether the baseline's numbers hold its 30 minutes before, too.
    baseline_remembered: bool,
    new_exceptions: Vec<NewView<'a>>,
    /// All of them, and how many are to be expected of the baseline's own rare ones.
    new_exception_types: u64,
    expected_by_chance: f64,
    /// How long the versions before were watched for what they show.
    watched_seconds: u64,
    /// False where the table of what they show was full: then nothing is called new.
    complete: bool,
}

#[derive(Debug, Serialize)]
struct NewView<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    frames: &'a [String],
    count: u64,
    /// Per request of the candidate.
    share: Option<f64>,
    trace_ids: &'a [String],
    /// Only attributes that `receiver.evidence_attributes` lists.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> LogsView<'a> {
    pub(super) fn new(e: &'a LogEvidence) -> Self {
        let [ratio, ratio_low, ratio_high] = e.ratio.map_or([None; 3], |r| r.map(Some));
        Self {
            counts_in_verdict: false,
            error_logs: e.error_logs.into(),
            exceptions: e.exceptions.into(),
            per: e.per.as_str(),
            exposure: e.exposure.into(),
            ratio,
            ratio_low,
            ratio_high,
            leaning: e.leaning.as_str(),
            baseline_remembered: e.is_remembered,
            new_exceptions: e.new.iter().map(NewView::new).collect(),
            new_exception_types: e.new_types,
            expected_by_chance: e.expected_types,
            watched_seconds: e.watched_s,
            complete: e.is_complete,
        }
    }
}

impl<'a> NewView<'a> {
    fn new(e: &'a NewException) -> Self {
        let mut attributes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in &e.values {
            attributes.entry(name).or_default().push(value);
        }
        Self {
            name: &e.name,
            kind: &e.kind,
            frames: &e.frames,
            count: e.count,
            share: e.share,
            trace_ids: &e.traces,
            attributes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l3_l4_it_says_that_it_does_not_count() {
        let evidence = LogEvidence {
            error_logs: [30, 10],
            ratio: Some([3.0, 2.0, 4.0]),
            new: vec![NewException {
                name: "E in a.b".into(),
                kind: "x.E".into(),
                frames: vec!["x.a.b".into()],
                count: 3,
                share: Some(0.5),
                traces: vec!["ab".into()],
                values: vec![("error.code".into(), "1".into()), ("error.code".into(), "2".into())],
            }],
            new_types: 1,
            ..LogEvidence::default()
        };
        let json = serde_json::to_value(LogsView::new(&evidence)).unwrap();
        assert_eq!(json["counts_in_verdict"], false);
        assert_eq!(json["error_logs"]["candidate"], 30);
        assert_eq!((json["ratio_low"].as_f64(), json["per"].as_str()), (Some(2.0), Some("requests")));
        let new = &json["new_exceptions"][0];
        assert_eq!(new["attributes"]["error.code"], serde_json::json!(["1", "2"]));
        assert_eq!((new["type"].as_str(), new["count"].as_u64()), (Some("x.E"), Some(3)));
        let without = serde_json::to_value(LogsView::new(&LogEvidence::default())).unwrap();
        assert!(without["ratio"].is_null() && without["new_exceptions"].as_array().unwrap().is_empty());
    }
}
