//! The sender of telemetry as borrowed views: what identifies it, and the attributes of its Resource that are
//! read for people (where it runs, which change it carries) and for joining telemetry that names no service.

macro_rules! resource_attributes {
    ($($variant:ident $name:literal,)*) => {
        /// Resource attributes that are read beside those of the identity itself. The first ones name a pod,
        /// a container or a process; then where it runs, which change it carries, and what made the telemetry.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each is the attribute that as_str names")]
        pub enum ResourceAttribute {
            $($variant,)*
        }

        impl ResourceAttribute {
            /// All of them.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// The name of the attribute.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The attribute of this name.
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

resource_attributes! {
    InstanceId "service.instance.id",
    PodUid "k8s.pod.uid",
    PodName "k8s.pod.name",
    ContainerId "container.id",
    HostName "host.name",
    K8sNamespace "k8s.namespace.name",
    K8sDeployment "k8s.deployment.name",
    Node "k8s.node.name",
    Cluster "k8s.cluster.name",
    Zone "cloud.availability_zone",
    Region "cloud.region",
    Account "cloud.account.id",
    Provider "cloud.provider",
    Revision "vcs.ref.head.revision",
    Branch "vcs.ref.head.name",
    Change "vcs.change.id",
    Repository "vcs.repository.url.full",
    Pipeline "cicd.pipeline.name",
    PipelineRun "cicd.pipeline.run.id",
    PipelineRunUrl "cicd.pipeline.run.url.full",
    DeploymentId "deployment.id",
    DeploymentName "deployment.name",
    DeploymentStatus "deployment.status",
    SdkName "telemetry.sdk.name",
    SdkLanguage "telemetry.sdk.language",
    SdkVersion "telemetry.sdk.version",
    Executable "process.executable.name",
}

/// Texts of the [`ResourceAttribute`]s of a resource; empty where absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceTexts<'a>([&'a [u8]; ResourceAttribute::ALL.len()]);

impl Default for ResourceTexts<'_> {
    fn default() -> Self {
        Self([b""; ResourceAttribute::ALL.len()])
    }
}

impl<'a> ResourceTexts<'a> {
    /// The text of an attribute.
    pub const fn get(&self, attribute: ResourceAttribute) -> &'a [u8] {
        self.0[attribute as usize]
    }

    /// Sets the text of an attribute.
    pub const fn set(&mut self, attribute: ResourceAttribute, text: &'a [u8]) {
        self.0[attribute as usize] = text;
    }

    /// A bit for each attribute that is present, the first of [`ResourceAttribute::ALL`] lowest.
    pub fn present(&self) -> u32 {
        let bits = self.0.iter().enumerate().map(|(i, text)| u32::from(!text.is_empty()) << i);
        bits.fold(0, |all, bit| all | bit)
    }
}

/// What identifies the sender, read once per resource of a message. Empty slices mean "absent". Strings are
/// the raw bytes of the message, not necessarily UTF-8.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourceView<'a> {
    /// `service.namespace`.
    pub namespace: &'a [u8],
    /// `service.name`, else `unknown_service:` and `process.executable.name`.
    pub service: &'a [u8],
    /// `deployment.environment.name`, else `deployment.environment`.
    pub environment: &'a [u8],
    /// What the first of the configured version sources yields that yields anything.
    pub version: &'a [u8],
    /// That source as it is configured; empty without a version.
    pub version_from: &'a str,
    /// `service.instance.id`, else `k8s.pod.uid`, else `container.id`, else `host.name` (+ `process.pid`).
    pub instance: &'a [u8],
    /// `process.pid`, 0 when absent; part of the identity only where `instance` is `host.name`.
    pub process_id: i64,
    /// Values of the configured extra identity attributes, in order.
    pub extra: Vec<&'a [u8]>,
    /// Whether any `faas.*` attribute is present: instances are short-lived, no warm-up.
    pub is_function: bool,
    /// Attributes beside those of the identity.
    pub texts: ResourceTexts<'a>,
    /// Attributes that are read and occurred more than once; the last one counts.
    pub repeated: u32,
    /// Attributes whose key or value is an index into a string table, which only profiles have: absent.
    pub indexed: u32,
}

impl ResourceView<'_> {
    /// The service name of resources that name none, as the OpenTelemetry specification has it; alone, or
    /// with a colon and the name of the process behind it.
    pub const UNKNOWN_SERVICE: &'static str = "unknown_service";

    /// Whether the resource itself names its service; the default that an SDK puts in is no name.
    pub fn names_service(&self) -> bool {
        let rest = self.service.strip_prefix(Self::UNKNOWN_SERVICE.as_bytes());
        !self.service.is_empty() && rest.is_none_or(|rest| !rest.is_empty() && rest[0] != b':')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_attribute() {
        for attribute in ResourceAttribute::ALL {
            assert_eq!(ResourceAttribute::named(attribute.as_str()), Some(attribute));
        }
        assert_eq!(ResourceAttribute::named("service.name"), None);
    }

    #[test]
    fn presence_is_a_bit_each() {
        let mut texts = ResourceTexts::default();
        assert_eq!(texts.present(), 0);
        texts.set(ResourceAttribute::InstanceId, b"a");
        texts.set(ResourceAttribute::Executable, b"java");
        let last = ResourceAttribute::ALL.len() - 1;
        assert_eq!(texts.present(), 1 | 1 << last);
        assert_eq!(texts.get(ResourceAttribute::Executable), b"java");
    }

    #[test]
    fn r1_the_default_of_an_sdk_is_no_name() {
        for (service, names) in [
            ("", false),
            ("unknown_service", false),
            ("unknown_service:java", false),
            ("unknown_services", true),
            ("shop", true),
        ] {
            let view = ResourceView { service: service.as_bytes(), ..ResourceView::default() };
            assert_eq!(view.names_service(), names, "{service}");
        }
    }
}
