//! Who sent a batch: service, environment, version and instance from the attributes of a Resource. Read once
//! per `ResourceSpans`, so it may allocate a little.

use std::borrow::Cow;

use super::settings::{FLAG_PREFIX, VersionSource, WalkSettings};
use super::value::{Value, is_indexed, key_value};
use crate::model::{ResourceAttribute, ResourceTexts, ResourceView};
use crate::wire::{BYTES, Fields, WalkError, key, numbers};

const ATTRIBUTE: u32 = key(1, BYTES);
const READ: u32 = numbers([1]);

/// What names an instance, in this order.
const INSTANCE: [ResourceAttribute; 4] = [
    ResourceAttribute::InstanceId,
    ResourceAttribute::PodUid,
    ResourceAttribute::ContainerId,
    ResourceAttribute::HostName,
];

/// The attributes of a Resource that matter, as far as they were read. Of an attribute that occurs twice the
/// last one counts.
#[derive(Debug)]
pub(super) struct Identity<'a, 's> {
    settings: &'s WalkSettings,
    namespace: Value<'a>,
    service: Value<'a>,
    environment: [Value<'a>; 2],
    process_id: Value<'a>,
    values: [Value<'a>; ResourceAttribute::ALL.len()],
    /// The parts of all version sources, one after the other.
    versions: Vec<Value<'a>>,
    extra: Vec<Value<'a>>,
    is_function: bool,
    repeated: u32,
    indexed: u32,
    /// The version where it is joined of several parts.
    joined: Vec<u8>,
    /// The service name where it is made from that of the process.
    unnamed: Vec<u8>,
}

impl<'a, 's> Identity<'a, 's> {
    pub(super) fn new(settings: &'s WalkSettings) -> Self {
        Self {
            settings,
            namespace: Value::Absent,
            service: Value::Absent,
            environment: [Value::Absent; 2],
            process_id: Value::Absent,
            values: [Value::Absent; ResourceAttribute::ALL.len()],
            versions: vec![Value::Absent; parts(&settings.version_attributes).count()],
            extra: vec![Value::Absent; settings.identity_attributes.len()],
            is_function: false,
            repeated: 0,
            indexed: 0,
            joined: Vec::new(),
            unnamed: Vec::new(),
        }
    }

    /// Reads a `Resource`; a second one is merged into the first, as protobuf does.
    pub(super) fn merge(&mut self, resource: &'a [u8]) -> Result<(), WalkError> {
        let mut fields = Fields::new(resource);
        while let Some(key) = fields.next_key()? {
            match key {
                ATTRIBUTE => {
                    let attribute = fields.bytes()?;
                    if let Some((name, value)) = key_value(attribute, Some)? {
                        self.set(name, value);
                        if (name.is_empty() || value == Value::Absent) && is_indexed(attribute) {
                            self.indexed = self.indexed.saturating_add(1);
                        }
                    }
                }
                _ => fields.skip_unknown(key, READ)?,
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &'a [u8], value: Value<'a>) {
        let own = match name {
            b"service.namespace" => Some(&mut self.namespace),
            b"service.name" => Some(&mut self.service),
            b"deployment.environment.name" => Some(&mut self.environment[0]),
            b"deployment.environment" => Some(&mut self.environment[1]),
            b"process.pid" => Some(&mut self.process_id),
            _ => {
                self.is_function |= name.starts_with(b"faas.");
                let known = std::str::from_utf8(name).ok().and_then(ResourceAttribute::named);
                known.map(|known| &mut self.values[known as usize])
            }
        };
        let mut is_repeated = own.is_some_and(|slot| put(slot, value));
        let versions = parts(&self.settings.version_attributes).zip(&mut self.versions);
        let extra = self.settings.identity_attributes.iter().zip(&mut self.extra);
        for (wanted, slot) in versions.chain(extra) {
            if is_same(wanted.as_bytes(), name) {
                is_repeated |= put(slot, value);
            }
        }
        self.repeated = self.repeated.saturating_add(u32::from(is_repeated));
    }

    /// What was found.
    pub(super) fn view(&mut self) -> ResourceView<'_> {
        let (version_from, version) = self.version();
        let version = match version {
            Cow::Borrowed(text) => text,
            Cow::Owned(text) => {
                self.joined = text;
                &self.joined
            }
        };
        let mut texts = ResourceTexts::default();
        for attribute in ResourceAttribute::ALL {
            texts.set(attribute, self.values[attribute as usize].text());
        }
        let executable = texts.get(ResourceAttribute::Executable);
        let mut service = self.service.text();
        if service.is_empty() && !executable.is_empty() {
            self.unnamed = [ResourceView::UNKNOWN_SERVICE.as_bytes(), b":", executable].concat();
            service = &self.unnamed;
        }
        ResourceView {
            namespace: self.namespace.text(),
            service,
            environment: first_text(self.environment),
            version,
            version_from,
            instance: first_text(INSTANCE.map(|attribute| self.values[attribute as usize])),
            process_id: self.process_id.number().unwrap_or(0),
            extra: self.extra.iter().map(|value| value.text()).collect(),
            is_function: self.is_function,
            texts,
            repeated: self.repeated,
            indexed: self.indexed,
        }
    }

    /// What its version is made of, to be completed by a request.
    pub(super) fn version_parts(&self) -> VersionParts<'a, 's> {
        let deployment = self.values[ResourceAttribute::K8sDeployment as usize].text();
        VersionParts { settings: self.settings, values: self.versions.clone(), deployment }
    }

    fn version(&self) -> (&'s str, Cow<'a, [u8]>) {
        let deployment = self.values[ResourceAttribute::K8sDeployment as usize].text();
        version_of(self.settings, &self.versions, deployment)
    }
}

/// What a version is made of: the values of the parts of all sources.
#[derive(Debug, Clone)]
pub(super) struct VersionParts<'a, 's> {
    settings: &'s WalkSettings,
    values: Vec<Value<'a>>,
    deployment: &'a [u8],
}

impl<'a, 's> VersionParts<'a, 's> {
    /// The variant of a flag; whether any source names the flag.
    pub(super) fn set_flag(&mut self, flag: &[u8], variant: &'a [u8]) -> bool {
        let mut is_named = false;
        for (part, value) in parts(&self.settings.version_attributes).zip(&mut self.values) {
            if part.strip_prefix(FLAG_PREFIX).is_some_and(|wanted| wanted.as_bytes() == flag) {
                (*value, is_named) = (Value::Text(variant), true);
            }
        }
        is_named
    }

    /// The first source that yields a version, and the version.
    pub(super) fn version(&self) -> (&'s str, Cow<'a, [u8]>) {
        version_of(self.settings, &self.values, self.deployment)
    }
}

/// The first source that yields a version, and the version.
fn version_of<'a, 's>(
    settings: &'s WalkSettings,
    mut values: &[Value<'a>],
    deployment: &[u8],
) -> (&'s str, Cow<'a, [u8]>) {
    for source in &settings.version_attributes {
        let (own, rest) = values.split_at(source.parts().len());
        values = rest;
        let version = joined(source, own, deployment);
        if !version.is_empty() {
            return (source.name(), version);
        }
    }
    ("", Cow::Borrowed(b""))
}

/// Keeps the value of an attribute; whether there was one before.
fn put<'a>(slot: &mut Value<'a>, value: Value<'a>) -> bool {
    std::mem::replace(slot, value) != Value::Absent
}

/// The attributes of all sources, one after the other.
fn parts(sources: &[VersionSource]) -> impl Iterator<Item = &String> {
    sources.iter().flat_map(VersionSource::parts)
}

/// What a source yields: nothing without its first part; else the parts that are present with a `+` between
/// them. A single one, which is the rule, is not copied.
pub(super) fn joined<'a>(source: &VersionSource, values: &[Value<'a>], deployment: &[u8]) -> Cow<'a, [u8]> {
    let mut present = source.parts().iter().zip(values).map(|(name, value)| part(name, *value, deployment));
    let mut version = Cow::Borrowed(present.next().unwrap_or_default());
    if !version.is_empty() {
        for text in present.filter(|text| !text.is_empty()) {
            let joined = version.to_mut();
            joined.push(b'+');
            joined.extend_from_slice(text);
        }
    }
    version
}

/// One part of a version, as its attribute is to be read.
fn part<'a>(name: &str, value: Value<'a>, deployment: &[u8]) -> &'a [u8] {
    match name {
        "k8s.replicaset.name" => template_hash(value.text(), deployment),
        "container.image.repo_digests" => digest(value.text()),
        _ => value.text(),
    }
}

/// Whether the attribute `name` is the `wanted` one, in the present or the older spelling of pod labels.
fn is_same(wanted: &[u8], name: &[u8]) -> bool {
    wanted == name
        || match (wanted.strip_prefix(b"k8s.pod.label."), name.strip_prefix(b"k8s.pod.labels.")) {
            (Some(wanted), Some(name)) => wanted == name,
            _ => false,
        }
}

fn first_text<'a, const N: usize>(values: [Value<'a>; N]) -> &'a [u8] {
    values.into_iter().map(Value::text).find(|text| !text.is_empty()).unwrap_or_default()
}

/// `checkout-7d4b9c` of the deployment `checkout` is `7d4b9c`. Without the deployment's name one cannot tell
/// where the hash begins.
fn template_hash<'a>(replicaset: &'a [u8], deployment: &[u8]) -> &'a [u8] {
    if deployment.is_empty() {
        return b"";
    }
    replicaset.strip_prefix(deployment).and_then(|rest| rest.strip_prefix(b"-")).unwrap_or_default()
}

/// `registry/shop@sha256:1f2e` is `sha256:1f2e`.
fn digest(reference: &[u8]) -> &[u8] {
    reference.rsplit(|&b| b == b'@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value as Any};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// A Resource from `name=text` and `name=[text,text]`.
    fn resource(attributes: &[&str]) -> Vec<u8> {
        let text = |text: &str| AnyValue { value: Some(Any::StringValue(text.into())) };
        let attribute = |pair: &&str| {
            let (key, value) = pair.split_once('=').unwrap();
            let value = match value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
                Some(list) => {
                    let values = list.split(',').map(text).collect();
                    AnyValue { value: Some(Any::ArrayValue(ArrayValue { values })) }
                }
                None => text(value),
            };
            KeyValue { key: key.into(), value: Some(value), key_strindex: 0 }
        };
        let attributes = attributes.iter().map(attribute).collect();
        Resource { attributes, ..Default::default() }.encode_to_vec()
    }

    /// What `read` sees of a Resource with these attributes.
    fn check(attributes: &[&str], read: impl Fn(&ResourceView<'_>) -> Vec<u8>, expected: &str) {
        let settings =
            WalkSettings { identity_attributes: vec!["k8s.cluster.name".into()], ..Default::default() };
        let bytes = resource(attributes);
        let mut identity = Identity::new(&settings);
        identity.merge(&bytes).unwrap();
        let seen = read(&identity.view());
        assert_eq!(String::from_utf8_lossy(&seen), expected, "{attributes:?}");
    }

    /// The version of a Resource with these attributes, and which of `sources` named it.
    fn version_of(sources: &[&str], attributes: &[&str]) -> (String, String) {
        let version_attributes = sources.iter().map(|s| VersionSource::new(s)).collect();
        let settings = WalkSettings { version_attributes, ..Default::default() };
        let bytes = resource(attributes);
        let mut identity = Identity::new(&settings);
        identity.merge(&bytes).unwrap();
        let view = identity.view();
        (String::from_utf8(view.version.to_vec()).unwrap(), view.version_from.to_owned())
    }

    #[test]
    fn r3_a_version_of_several_attributes() {
        let hash = "service.version + k8s.pod.label.pod-template-hash";
        let set = "service.version+k8s.replicaset.name+container.image.repo_digests";
        let sources = [hash, set, "deployment.id"];
        let rows: [(&[&str], &str, &str); 8] = [
            (&["service.version=1.2", "k8s.pod.label.pod-template-hash=7d4b"], "1.2+7d4b", hash),
            (&["k8s.pod.labels.pod-template-hash=7d4b", "service.version=1.2"], "1.2+7d4b", hash),
            // A later part may be absent, the first may not.
            (&["service.version=1.2"], "1.2", hash),
            (&["k8s.pod.label.pod-template-hash=7d4b"], "", ""),
            (&["k8s.pod.label.pod-template-hash=7d4b", "deployment.id=9"], "9", "deployment.id"),
            (&["service.version=", "deployment.id=9"], "9", "deployment.id"),
            (&["service.version=1", "service.version=2", "deployment.id=9"], "2", hash),
            (&[], "", ""),
        ];
        for (attributes, version, from) in rows {
            assert_eq!(version_of(&sources, attributes), (version.into(), from.into()), "{attributes:?}");
        }
        let pod = [
            "service.version=1",
            "k8s.replicaset.name=shop-7d4b",
            "container.image.repo_digests=[r/shop@sha256:1f]",
        ];
        let version = |more: &[&str]| version_of(&[set], &[&pod, more].concat()).0;
        assert_eq!(version(&["k8s.deployment.name=shop"]), "1+7d4b+sha256:1f");
        assert_eq!(version(&[]), "1+sha256:1f");
    }

    proptest! {
        /// Whatever is present: nothing without the first part, else the present parts in their order; and the
        /// order of the attributes in the message does not matter.
        #[test]
        fn r3_parts_join_in_the_order_of_the_source(
            values in prop::collection::vec(prop::option::of("[a-z0-9.]{0,4}"), 1..6),
            turn in 0..6usize,
        ) {
            let names: Vec<String> = (0..values.len()).map(|i| format!("part.{i}")).collect();
            let mut attributes: Vec<String> = names
                .iter()
                .zip(&values)
                .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
                .collect();
            let turn = turn.min(attributes.len());
            attributes.rotate_left(turn);
            let attributes: Vec<&str> = attributes.iter().map(String::as_str).collect();
            let (version, _) = version_of(&[&names.join("+")], &attributes);
            let present = values.iter().flatten().filter(|v| !v.is_empty()).cloned().collect::<Vec<_>>();
            let first_is_there = values[0].as_ref().is_some_and(|v| !v.is_empty());
            prop_assert_eq!(version, if first_is_there { present.join("+") } else { String::new() });
        }
    }

    #[test]
    fn r2_the_first_version_that_is_named_counts() {
        let version = |r: &ResourceView<'_>| r.version.to_vec();
        check(&[], version, "");
        check(&["container.image.tag=old", "service.version=1.2"], version, "1.2");
        check(&["service.version=", "container.image.tags=[7.1,latest]"], version, "7.1");
        check(&["container.image.repo_digests=[shop@sha256:1f2e]"], version, "sha256:1f2e");
        check(&["k8s.pod.label.app.kubernetes.io/version=3"], version, "3");
        check(&["k8s.pod.labels.pod-template-hash=7d4b"], version, "7d4b");
        check(&["k8s.replicaset.name=shop-7d4b", "k8s.deployment.name=shop"], version, "7d4b");
        check(&["k8s.replicaset.name=shop-7d4b"], version, "");
        check(&["deployment.id=42", "vcs.ref.head.revision=abc"], version, "abc");
        check(&["service.version=1", "service.version=2"], version, "2");
    }

    #[test]
    fn r5_r6_r8_place_change_and_sdk_are_handed_on() {
        let attributes = ResourceAttribute::ALL.map(|a| format!("{}={}", a.as_str(), a as usize));
        let attributes = attributes.each_ref().map(String::as_str);
        let all = |r: &ResourceView<'_>| {
            ResourceAttribute::ALL
                .map(|a| String::from_utf8(r.texts.get(a).to_vec()).unwrap())
                .join(" ")
                .into()
        };
        let expected = ResourceAttribute::ALL.map(|a| (a as usize).to_string()).join(" ");
        check(&attributes, all, &expected);
    }

    #[test]
    fn r9_of_an_attribute_that_occurs_twice_the_last_counts_and_it_is_counted() {
        let seen = |r: &ResourceView<'_>| {
            let service = String::from_utf8_lossy(r.service);
            let zone = String::from_utf8_lossy(r.texts.get(ResourceAttribute::Zone));
            format!("{service} {zone} {}", r.repeated).into()
        };
        check(&["service.name=a", "cloud.availability_zone=z"], seen, "a z 0");
        check(&["service.name=a", "service.name=b", "cloud.availability_zone=y"], seen, "b y 1");
        check(&["cloud.availability_zone=y", "service.name=b", "cloud.availability_zone=z"], seen, "b z 1");
        // One attribute that is read for two purposes is one; what is not read is not counted.
        check(&["k8s.cluster.name=a", "k8s.cluster.name=b"], seen, "  1");
        check(&["other=a", "other=b", "service.name=c"], seen, "c  0");
    }

    #[test]
    fn g8_indices_into_a_string_table_are_absent_and_counted() {
        let text = |text: &str| AnyValue { value: Some(Any::StringValue(text.into())) };
        let index = AnyValue { value: Some(Any::StringValueStrindex(3)) };
        let attributes = [
            KeyValue { key: "service.name".into(), value: Some(index), key_strindex: 0 },
            KeyValue { key: String::new(), value: Some(text("v1")), key_strindex: 7 },
            KeyValue { key: "service.version".into(), value: Some(text("v2")), key_strindex: 0 },
            KeyValue { key: "service.namespace".into(), value: None, key_strindex: 0 },
        ];
        let bytes = Resource { attributes: attributes.to_vec(), ..Default::default() }.encode_to_vec();
        let settings = WalkSettings::default();
        let mut identity = Identity::new(&settings);
        identity.merge(&bytes).unwrap();
        let view = identity.view();
        assert_eq!((view.service, view.version, view.indexed), (&b""[..], &b"v2"[..], 2));
    }

    #[test]
    fn r1_r4_service_environment_and_instance() {
        let names = |r: &ResourceView<'_>| [r.namespace, r.service, r.environment].join(&b'|');
        check(&["service.name=cart", "service.namespace=shop"], names, "shop|cart|");
        check(&["process.executable.name=java"], names, "|unknown_service:java|");
        check(&["process.executable.name=java", "service.name=cart"], names, "|cart|");
        check(&["deployment.environment=old"], names, "||old");
        check(&["deployment.environment=old", "deployment.environment.name=new"], names, "||new");
        let instance = |r: &ResourceView<'_>| r.instance.to_vec();
        check(&["host.name=h", "container.id=c"], instance, "c");
        check(&["host.name=h", "k8s.pod.uid=p", "service.instance.id="], instance, "p");
        check(&["service.instance.id=i", "k8s.pod.uid=p"], instance, "i");
        check(&["process.pid=17", "host.name=h"], |r| r.process_id.to_string().into_bytes(), "17");
        check(&["k8s.cluster.name=eu"], |r| r.extra.concat(), "eu");
        check(&["faas.instance=x"], |r| r.is_function.to_string().into_bytes(), "true");
    }
}
