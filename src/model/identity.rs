//! Who is being watched: a service in an environment, its versions, and the deployments between them.

use std::fmt;

/// A service as one thing that is deployed and judged: `service.namespace`, `service.name`, the deployment
/// environment, and whatever attributes the configuration adds (for example the cluster).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServiceKey {
    /// `service.namespace`, empty when the resource has none.
    pub namespace: String,
    /// `service.name`.
    pub name: String,
    /// `deployment.environment.name`, empty when the resource has none.
    pub environment: String,
    /// Values of the configured identity attributes, in the configured order.
    pub extra: Vec<String>,
}

impl ServiceKey {
    /// Whether people mean it by `wanted`: its name, or `namespace/name`.
    pub fn is_called(&self, wanted: &str) -> bool {
        wanted == self.name || wanted.split_once('/') == Some((&self.namespace, &self.name))
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)?;
        if !self.environment.is_empty() {
            write!(f, " ({})", self.environment)?;
        }
        for value in self.extra.iter().filter(|v| !v.is_empty()) {
            write!(f, " [{value}]")?;
        }
        Ok(())
    }
}

/// One version of one service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionKey {
    /// The service.
    pub service: ServiceKey,
    /// The version as the resource names it; [`VersionKey::UNVERSIONED`] when it names none.
    pub version: String,
}

impl VersionKey {
    /// Where spans without a version are counted: visible, never judged.
    pub const UNVERSIONED: &str = "(unversioned)";
    /// Where versions beyond the cap of a service are counted: visible, never judged.
    pub const OVERFLOW: &str = "(overflow)";
}

/// Identifies one deployment for ever: in the API, the webhook, the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(pub String);

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
