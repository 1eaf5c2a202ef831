//! Who sent a batch: service, environment, version and instance from the attributes of a Resource. Read once
//! per `ResourceSpans`, so it may allocate a little.

use std::borrow::Cow;

use super::settings::{VersionSource, WalkSettings};
use super::value::{Value, key_value};
use super::wire::{BYTES, Fields, WalkError, key, numbers};
use crate::model::ResourceView;

const ATTRIBUTE: u32 = key(1, BYTES);
const READ: u32 = numbers([1]);

/// The attributes of a Resource that matter, as far as they were read. Of an attribute that occurs twice the
/// last one counts.
#[derive(Debug)]
pub(super) struct Identity<'a, 's> {
    settings: &'s WalkSettings,
    namespace: Value<'a>,
    service: Value<'a>,
    environment: [Value<'a>; 2],
    instance: [Value<'a>; 4],
    process_id: Value<'a>,
    deployment_name: Value<'a>,
    /// The parts of all version sources, one after the other.
    versions: Vec<Value<'a>>,
    /// The version where it is joined of several parts.
    joined: Vec<u8>,
    extra: Vec<Value<'a>>,
    is_function: bool,
}

impl<'a, 's> Identity<'a, 's> {
    pub(super) fn new(settings: &'s WalkSettings) -> Self {
        Self {
            settings,
            namespace: Value::Absent,
            service: Value::Absent,
            environment: [Value::Absent; 2],
            instance: [Value::Absent; 4],
            process_id: Value::Absent,
            deployment_name: Value::Absent,
            versions: vec![Value::Absent; parts(&settings.version_attributes).count()],
            joined: Vec::new(),
            extra: vec![Value::Absent; settings.identity_attributes.len()],
            is_function: false,
        }
    }

    /// Reads a `Resource`; a second one is merged into the first, as protobuf does.
    pub(super) fn merge(&mut self, resource: &'a [u8]) -> Result<(), WalkError> {
        let mut fields = Fields::new(resource);
        while let Some(key) = fields.next_key()? {
            match key {
                ATTRIBUTE => {
                    if let Some((name, value)) = key_value(fields.bytes()?, Some)? {
                        self.set(name, value);
                    }
                }
                _ => fields.skip_unknown(key, READ)?,
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &'a [u8], value: Value<'a>) {
        match name {
            b"service.namespace" => self.namespace = value,
            b"service.name" => self.service = value,
            b"deployment.environment.name" => self.environment[0] = value,
            b"deployment.environment" => self.environment[1] = value,
            b"service.instance.id" => self.instance[0] = value,
            b"k8s.pod.uid" => self.instance[1] = value,
            b"container.id" => self.instance[2] = value,
            b"host.name" => self.instance[3] = value,
            b"process.pid" => self.process_id = value,
            b"k8s.deployment.name" => self.deployment_name = value,
            _ => self.is_function |= name.starts_with(b"faas."),
        }
        for (wanted, slot) in parts(&self.settings.version_attributes).zip(&mut self.versions) {
            if is_same(wanted.as_bytes(), name) {
                *slot = value;
            }
        }
        for (wanted, slot) in self.settings.identity_attributes.iter().zip(&mut self.extra) {
            if is_same(wanted.as_bytes(), name) {
                *slot = value;
            }
        }
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
        ResourceView {
            namespace: self.namespace.text(),
            service: self.service.text(),
            environment: first_text(&self.environment),
            version,
            version_from,
            instance: first_text(&self.instance),
            process_id: self.process_id.number().unwrap_or(0),
            extra: self.extra.iter().map(|value| value.text()).collect(),
            is_function: self.is_function,
        }
    }

    /// The first source that yields a version, and the version.
    fn version(&self) -> (&'s str, Cow<'a, [u8]>) {
        let mut values = self.versions.as_slice();
        for source in &self.settings.version_attributes {
            let (own, rest) = values.split_at(source.parts().len());
            values = rest;
            let version = joined(source, own, self.deployment_name.text());
            if !version.is_empty() {
                return (source.name(), version);
            }
        }
        ("", Cow::Borrowed(b""))
    }
}

/// The attributes of all sources, one after the other.
fn parts(sources: &[VersionSource]) -> impl Iterator<Item = &String> {
    sources.iter().flat_map(VersionSource::parts)
}

/// What a source yields: nothing without its first part; else the parts that are present with a `+` between
/// them. A single one, which is the rule, is not copied.
fn joined<'a>(source: &VersionSource, values: &[Value<'a>], deployment: &[u8]) -> Cow<'a, [u8]> {
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

fn first_text<'a>(values: &[Value<'a>]) -> &'a [u8] {
    values.iter().map(|value| value.text()).find(|text| !text.is_empty()).unwrap_or_default()
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
    fn r1_r4_service_environment_and_instance() {
        let names = |r: &ResourceView<'_>| [r.namespace, r.service, r.environment].join(&b'|');
        check(&["service.name=cart", "service.namespace=shop"], names, "shop|cart|");
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
