//! What the walkers are told to look for: which resource attributes name a version, which belong to a service's
//! identity, what a metric data point may name, and which routes are health checks.

/// What the names of feature flags begin with in a list of version attributes.
pub(super) const FLAG_PREFIX: &str = "feature_flag.";

/// Settings of [`super::walk_traces`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WalkSettings {
    /// What names the version, in this order: the first that yields one counts.
    pub version_attributes: Vec<VersionSource>,
    /// Resource attributes that belong to the identity of a service beside namespace, name and environment.
    pub identity_attributes: Vec<String>,
    /// What the attributes of a metric data point name.
    pub point_attributes: PointAttributes,
    /// Routes, or `service/method` of RPCs, that are health checks. A `*` at the end matches any rest.
    pub health_routes: Vec<String>,
    /// HTTP status codes of requests that are never judged.
    pub excluded_statuses: Vec<u16>,
    /// Attributes of exceptions whose values may be kept and shown; by default none, for they may hold
    /// personal data.
    pub evidence_attributes: Vec<String>,
    /// Metrics of other names that count requests: of a mesh, an ingress.
    pub request_metrics: Vec<String>,
}

impl WalkSettings {
    /// Keys of the feature flags whose variant may be a part of a version.
    pub(super) fn flags(&self) -> impl Iterator<Item = &str> {
        let parts = self.version_attributes.iter().flat_map(VersionSource::parts);
        parts.filter_map(|part| part.strip_prefix(FLAG_PREFIX))
    }
}

/// One way to name a version: a resource attribute, or several joined with a `+`. Two pods of one
/// `service.version` whose pod template differs (a changed setting, say) are two releases; with
/// `service.version+k8s.pod.label.pod-template-hash` they have two names.
///
/// The parts that are present are joined with a `+` in the order written. A source yields nothing unless its
/// first part is present; later parts may be absent, so that a pod without the label still has its version.
/// `k8s.pod.label.*` also matches the older spelling `k8s.pod.labels.*`; `k8s.replicaset.name` is read without
/// its leading `k8s.deployment.name`; of `container.image.repo_digests` the part after the `@` is taken. A part
/// `feature_flag.KEY` is the variant of that flag where the span of a request says it, else the resource's attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionSource {
    name: String,
    parts: Vec<String>,
}

impl VersionSource {
    /// The source written as in the configuration: attribute names with a `+` between them.
    pub fn new(name: &str) -> Self {
        let parts = name.split('+').map(|part| part.trim().to_owned()).collect();
        Self { name: name.to_owned(), parts }
    }

    /// The source as it was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The attributes, at least one.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }
}

/// Attributes of metric data points that say whom a point is about and what happened. Connectors that derive
/// metrics from spans, meshes and ingresses report for others, so what a point names goes before what its
/// resource names, each list by itself; the first non-empty attribute counts. The value `unknown` counts as
/// empty: meshes write it where a pod has no label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PointAttributes {
    /// `service.name`.
    pub service: Vec<String>,
    /// `service.namespace`.
    pub namespace: Vec<String>,
    /// `deployment.environment.name`.
    pub environment: Vec<String>,
    /// The version.
    pub version: Vec<VersionSource>,
    /// The operation, where the conventions for HTTP, RPC and messaging name none.
    pub operation: Vec<String>,
    /// The status of HTTP (a number from 100 on) or gRPC (a smaller number, or a name), where the conventions
    /// name none.
    pub status: Vec<String>,
}

impl PointAttributes {
    /// Number of attributes over all lists.
    pub fn names(&self) -> usize {
        let plain = [&self.service, &self.namespace, &self.environment, &self.operation, &self.status];
        plain.iter().map(|list| list.len()).sum::<usize>()
            + self.version.iter().map(|source| source.parts().len()).sum::<usize>()
    }
}

impl Default for PointAttributes {
    /// The names that span_metrics and Istio's telemetry use.
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            service: list(&["service.name", "destination_canonical_service", "destination_workload"]),
            namespace: list(&["service.namespace"]),
            environment: list(&["deployment.environment.name", "deployment.environment"]),
            version: ["service.version", "destination_version", "destination_canonical_revision"]
                .map(VersionSource::new)
                .to_vec(),
            operation: list(&["span.name", "span_name"]),
            status: list(&["grpc_response_status", "response_code"]),
        }
    }
}

const VERSION_ATTRIBUTES: [&str; 11] = [
    "service.version",
    "container.image.tags",
    "container.image.tag",
    "container.image.repo_digests",
    "k8s.pod.label.app.kubernetes.io/version",
    "k8s.pod.label.pod-template-hash",
    "k8s.pod.label.rollouts-pod-template-hash",
    "k8s.pod.label.controller-revision-hash",
    "k8s.replicaset.name",
    "vcs.ref.head.revision",
    "deployment.id",
];

const HEALTH_ROUTES: [&str; 10] = [
    "/health",
    "/healthz",
    "/livez",
    "/live",
    "/readyz",
    "/ready",
    "/ping",
    "/metrics",
    "/status",
    "grpc.health.v1.Health/*",
];

impl Default for WalkSettings {
    fn default() -> Self {
        Self {
            version_attributes: VERSION_ATTRIBUTES.map(VersionSource::new).to_vec(),
            identity_attributes: Vec::new(),
            point_attributes: PointAttributes::default(),
            health_routes: HEALTH_ROUTES.map(String::from).to_vec(),
            excluded_statuses: Vec::new(),
            evidence_attributes: Vec::new(),
            request_metrics: Vec::new(),
        }
    }
}
