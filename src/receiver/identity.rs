//! Who sent a batch: service, environment, version and instance from the attributes of a Resource. Read once
//! per `ResourceSpans`, so it may allocate a little.

use super::settings::WalkSettings;
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
    versions: Vec<Value<'a>>,
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
            versions: vec![Value::Absent; settings.version_attributes.len()],
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
        for (wanted, slot) in self.settings.version_attributes.iter().zip(&mut self.versions) {
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
    pub(super) fn view(&self) -> ResourceView<'a> {
        ResourceView {
            namespace: self.namespace.text(),
            service: self.service.text(),
            environment: first_text(&self.environment),
            version: self.version(),
            instance: first_text(&self.instance),
            process_id: self.process_id.number().unwrap_or(0),
            extra: self.extra.iter().map(|value| value.text()).collect(),
            is_function: self.is_function,
        }
    }

    fn version(&self) -> &'a [u8] {
        let named = self.settings.version_attributes.iter().zip(&self.versions);
        named
            .map(|(name, value)| match name.as_str() {
                "k8s.replicaset.name" => template_hash(value.text(), self.deployment_name.text()),
                "container.image.repo_digests" => digest(value.text()),
                _ => value.text(),
            })
            .find(|version| !version.is_empty())
            .unwrap_or_default()
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
