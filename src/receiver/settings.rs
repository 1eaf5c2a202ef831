//! What the walker is told to look for: which resource attributes name a version, which belong to a service's
//! identity, and which routes are health checks.

/// Settings of [`super::walk_traces`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkSettings {
    /// Resource attributes that name the version; the first non-empty one counts. `k8s.pod.label.*` also
    /// matches the older spelling `k8s.pod.labels.*`; `k8s.replicaset.name` is read without its leading
    /// `k8s.deployment.name`; of `container.image.repo_digests` the part after the `@` is taken.
    pub version_attributes: Vec<String>,
    /// Resource attributes that belong to the identity of a service beside namespace, name and environment.
    pub identity_attributes: Vec<String>,
    /// Routes, or `service/method` of RPCs, that are health checks. A `*` at the end matches any rest.
    pub health_routes: Vec<String>,
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
            version_attributes: VERSION_ATTRIBUTES.map(String::from).to_vec(),
            identity_attributes: Vec::new(),
            health_routes: HEALTH_ROUTES.map(String::from).to_vec(),
        }
    }
}
