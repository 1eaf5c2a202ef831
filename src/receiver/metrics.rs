//! What the receivers count of themselves: every name is here. The first names are the Collector's, so that
//! dashboards made for it show Rollguard too. Handles are made once; the macros are far too slow per request.

use metrics::{Counter, counter, describe_counter};

use crate::credentials::Denied;
use crate::pipeline::{DataType, Signal};

const ACCEPTED: [&str; 4] = [
    "otelcol_receiver_accepted_spans",
    "otelcol_receiver_accepted_metric_points",
    "otelcol_receiver_accepted_log_records",
    "otelcol_receiver_accepted_profiles",
];
const REFUSED: [&str; 4] = [
    "otelcol_receiver_refused_spans",
    "otelcol_receiver_refused_metric_points",
    "otelcol_receiver_refused_log_records",
    "otelcol_receiver_refused_profiles",
];
const FAILED: [&str; 4] = [
    "otelcol_receiver_failed_spans",
    "otelcol_receiver_failed_metric_points",
    "otelcol_receiver_failed_log_records",
    "otelcol_receiver_failed_profiles",
];
const REQUESTS: &str = "otelcol_receiver_requests";
const RESENDS_FORGOTTEN: &str = "rollguard_receiver_resends_forgotten_total";
const PARTS_CUT: &str = "rollguard_receiver_parts_cut_total";
const ATTRIBUTES_DROPPED: &str = "rollguard_receiver_attributes_dropped_total";
const CONNECTIONS: &str = "rollguard_receiver_connections_total";
const HANDSHAKES_FAILED: &str = "rollguard_receiver_handshakes_failed_total";
const UNAUTHENTICATED: &str = "rollguard_receiver_unauthenticated_total";

/// By which protocol a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Grpc,
    Http,
}

impl Transport {
    const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestOutcome {
    Success,
    /// Pushed back; the client sends it again.
    Refused,
    /// Cannot be read or is not allowed; the client must not send it again.
    Malformed,
}

/// Counters of both transports.
#[derive(Debug, Clone)]
pub(super) struct ReceiverMetrics {
    accepted: [[Counter; 4]; 2],
    refused: [[Counter; 4]; 2],
    requests: [[Counter; 3]; 2],
    /// By signal.
    pub(super) parts_cut: [Counter; 3],
    pub(super) attributes_dropped: Counter,
    pub(super) resends_forgotten: Counter,
    pub(super) connections: Counter,
}

impl ReceiverMetrics {
    pub(super) fn new() -> Self {
        describe();
        let each = |names: [&'static str; 4]| {
            Transport::ALL.map(|transport| {
                names.map(|name| counter!(name, "receiver" => "otlp", "transport" => transport.as_str()))
            })
        };
        // Nothing fails in here that is not the request's fault; the series are there for the dashboards.
        drop(each(FAILED));
        let requests = Transport::ALL.map(|transport| {
            ["success", "refused", "failure"].map(|outcome| {
                let transport = transport.as_str();
                counter!(REQUESTS, "receiver" => "otlp", "transport" => transport, "outcome" => outcome)
            })
        });
        Self {
            accepted: each(ACCEPTED),
            refused: each(REFUSED),
            requests,
            parts_cut: Signal::ALL.map(|signal| counter!(PARTS_CUT, "signal" => signal.as_str())),
            resends_forgotten: counter!(RESENDS_FORGOTTEN),
            attributes_dropped: counter!(ATTRIBUTES_DROPPED),
            connections: counter!(CONNECTIONS),
        }
    }

    pub(super) fn accepted(&self, transport: Transport, data: DataType, records: u64) {
        self.accepted[transport as usize][data as usize].increment(records);
    }

    pub(super) fn refused(&self, transport: Transport, data: DataType, records: u64) {
        self.refused[transport as usize][data as usize].increment(records);
    }

    pub(super) fn request(&self, transport: Transport, outcome: RequestOutcome) {
        self.requests[transport as usize][outcome as usize].increment(1);
    }
}

/// Why a connection was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    TlsOnPlainPort,
    PlainOnTlsPort,
    NoClientCertificate,
    BadClientCertificate,
    Incompatible,
    RefusedByClient,
    Malformed,
    Closed,
    Timeout,
}

impl Handshake {
    const ALL: [Self; 9] = [
        Self::TlsOnPlainPort,
        Self::PlainOnTlsPort,
        Self::NoClientCertificate,
        Self::BadClientCertificate,
        Self::Incompatible,
        Self::RefusedByClient,
        Self::Malformed,
        Self::Closed,
        Self::Timeout,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::TlsOnPlainPort => "tls_on_plain_port",
            Self::PlainOnTlsPort => "plain_on_tls_port",
            Self::NoClientCertificate => "no_client_certificate",
            Self::BadClientCertificate => "bad_client_certificate",
            Self::Incompatible => "incompatible",
            Self::RefusedByClient => "refused_by_client",
            Self::Malformed => "malformed",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
        }
    }
}

/// Counters of one port's door.
#[derive(Debug, Clone)]
pub(super) struct DoorMetrics {
    handshakes: [Counter; Handshake::ALL.len()],
    denied: [Counter; 4],
}

impl DoorMetrics {
    pub(super) fn new(transport: Transport) -> Self {
        describe_counter!(HANDSHAKES_FAILED, "Connections that were not accepted, by reason");
        describe_counter!(UNAUTHENTICATED, "Requests without valid credentials, by reason");
        let of = |name: &'static str, reason: &'static str| counter!(name, "transport" => transport.as_str(), "reason" => reason);
        Self {
            handshakes: Handshake::ALL.map(|why| of(HANDSHAKES_FAILED, why.as_str())),
            denied: ["missing", "malformed", "wrong", "busy"].map(|reason| of(UNAUTHENTICATED, reason)),
        }
    }

    pub(super) fn handshake(&self, why: Handshake) {
        self.handshakes[why as usize].increment(1);
    }

    pub(super) fn denied(&self, why: Denied) {
        self.denied[why as usize].increment(1);
    }
}

fn describe() {
    for (names, text) in [
        (ACCEPTED, "Records taken"),
        (REFUSED, "Records pushed back; their sender sends them again"),
        (FAILED, "Records lost by a fault of ours"),
    ] {
        names.into_iter().for_each(|name| describe_counter!(name, text));
    }
    describe_counter!(REQUESTS, "Export requests by how they ended");
    describe_counter!(
        ATTRIBUTES_DROPPED,
        "Entry spans that may be misjudged because attributes were dropped"
    );
    describe_counter!(RESENDS_FORGOTTEN, "Messages forgotten early because too many came");
    describe_counter!(PARTS_CUT, "Links and exemplars with ids of the wrong length, not passed on");
    describe_counter!(CONNECTIONS, "Connections accepted");
}
