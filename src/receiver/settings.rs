//! What the walkers are told to look for: which resource attributes name a version, which belong to a service's
//! identity, and which routes are health checks.

/// Settings of [`super::walk_traces`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkSettings {
    /// What names the version, in this order: the first that yields one counts.
    pub version_attributes: Vec<VersionSource>,
    /// Resource attributes that belong to the identity of a service beside namespace, name and environment.
    pub identity_attributes: Vec<String>,
    /// Routes, or `service/method` of RPCs, that are health checks. A `*` at the end matches any rest.
    pub health_routes: Vec<String>,
}

/// One way to name a version: a resource attribute, or several joined with a `+`. Two pods of one
/// `service.version` whose pod template differs (a changed setting, say) are two releases; with
/// `service.version+k8s.pod.label.pod-template-hash` they have two names.
///
/// The parts that are present are joined with a `+` in the order written. A source yields nothing unless its
/// first part is present; later parts may be absent, so that a pod without the label still has its version.
/// `k8s.pod.label.*` also matches the older spelling `k8s.pod.labels.*`; `k8s.replicaset.name` is read without
/// its leading `k8s.deployment.name`; of `container.image.repo_digests` the part after the `@` is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
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
            health_routes: HEALTH_ROUTES.map(String::from).to_vec(),
        }
    }
}
