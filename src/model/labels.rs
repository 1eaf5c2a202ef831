//! Resource attributes that are kept, by attribute: where an instance runs, which change a version carries.

use super::resource::{ResourceAttribute, ResourceTexts};
use super::snapshot::{Corrupt, Reader, Snapshot, Writer};

/// Longest text kept of a link, and of anything else, in bytes.
const LINK_BYTES: usize = 1_024;
const TEXT_BYTES: usize = 256;

/// Texts of some attributes, in the order of [`ResourceAttribute::ALL`]. Bounded: a list of a few attributes,
/// each text at most 256 bytes, links 1,024.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Vec<(ResourceAttribute, Box<str>)>);

impl Labels {
    /// Where an instance runs.
    pub const PLACE: [ResourceAttribute; 9] = [
        ResourceAttribute::PodName,
        ResourceAttribute::HostName,
        ResourceAttribute::K8sNamespace,
        ResourceAttribute::Node,
        ResourceAttribute::Cluster,
        ResourceAttribute::Zone,
        ResourceAttribute::Region,
        ResourceAttribute::Account,
        ResourceAttribute::Provider,
    ];
    /// Which change a version carries, and how it was delivered.
    pub const CHANGE: [ResourceAttribute; 10] = [
        ResourceAttribute::Revision,
        ResourceAttribute::Branch,
        ResourceAttribute::Change,
        ResourceAttribute::Repository,
        ResourceAttribute::Pipeline,
        ResourceAttribute::PipelineRun,
        ResourceAttribute::PipelineRunUrl,
        ResourceAttribute::DeploymentId,
        ResourceAttribute::DeploymentName,
        ResourceAttribute::DeploymentStatus,
    ];

    /// Takes over those of `wanted` that are present; the newest text of an attribute stands. Whether anything
    /// changed.
    pub fn take(&mut self, wanted: &[ResourceAttribute], texts: &ResourceTexts<'_>) -> bool {
        let mut changed = false;
        for attribute in wanted {
            let text = texts.get(*attribute);
            if !text.is_empty() {
                changed |= self.put(*attribute, text);
            }
        }
        changed
    }

    /// Takes over those of `other` that are not here yet. Whether there were any.
    pub fn complete(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (attribute, text) in other.iter() {
            if self.get(attribute).is_none() {
                changed |= self.put(attribute, text.as_bytes());
            }
        }
        changed
    }

    fn put(&mut self, attribute: ResourceAttribute, text: &[u8]) -> bool {
        let at = self.0.partition_point(|(known, _)| *known < attribute);
        let known = self.0.get_mut(at).filter(|(known, _)| *known == attribute);
        if known.as_ref().is_some_and(|(_, known)| known.as_bytes() == text) {
            return false;
        }
        let text = kept(attribute, text);
        match known {
            Some((_, known)) if *known == text => return false,
            Some((_, known)) => *known = text,
            None => self.0.insert(at, (attribute, text)),
        }
        true
    }

    /// The text of an attribute.
    pub fn get(&self, attribute: ResourceAttribute) -> Option<&str> {
        self.iter().find(|(known, _)| *known == attribute).map(|(_, text)| text)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceAttribute, &str)> {
        self.0.iter().map(|(attribute, text)| (*attribute, &**text))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A text as it is kept: valid, bounded, without control characters, and of a link without the name and password that may stand in it.
fn kept(attribute: ResourceAttribute, text: &[u8]) -> Box<str> {
    let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
    let is_link = matches!(attribute, ResourceAttribute::Repository | ResourceAttribute::PipelineRunUrl);
    let (longest, text) = if is_link { (LINK_BYTES, without_user(&text)) } else { (TEXT_BYTES, text) };
    text[..text.floor_char_boundary(longest)].into()
}

fn without_user(link: &str) -> String {
    let Some((scheme, rest)) = link.split_once("://") else { return link.to_owned() };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..authority].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host..])
}

impl Snapshot for Labels {
    /// By name, so that what is kept stays readable when attributes are added.
    fn save(&self, out: &mut Writer) {
        let named =
            |(attribute, text): (ResourceAttribute, &str)| (attribute.as_str().to_owned(), text.to_owned());
        self.iter().map(named).collect::<Vec<(String, String)>>().save(out);
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let mut labels = Self::default();
        for (name, text) in Vec::<(String, String)>::load(from)? {
            if let Some(attribute) = ResourceAttribute::named(&name) {
                labels.put(attribute, text.as_bytes());
            }
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(list: &[(ResourceAttribute, &'a str)]) -> ResourceTexts<'a> {
        let mut texts = ResourceTexts::default();
        list.iter().for_each(|(attribute, text)| texts.set(*attribute, text.as_bytes()));
        texts
    }

    #[test]
    fn the_newest_text_stands_and_absence_changes_nothing() {
        use ResourceAttribute::{Branch, Revision, Zone};
        let mut labels = Labels::default();
        assert!(labels.take(&Labels::CHANGE, &texts(&[(Branch, "main"), (Revision, "abc"), (Zone, "a")])));
        assert!(!labels.take(&Labels::CHANGE, &texts(&[(Revision, "abc")])));
        assert!(labels.take(&Labels::CHANGE, &texts(&[(Revision, "def")])));
        assert_eq!(labels.iter().collect::<Vec<_>>(), [(Revision, "def"), (Branch, "main")]);
        let mut other = Labels::default();
        other.take(&[Zone, Revision], &texts(&[(Revision, "xyz"), (Zone, "z")]));
        assert!(labels.complete(&other) && !labels.complete(&other));
        assert_eq!((labels.get(Revision), labels.get(Zone)), (Some("def"), Some("z")));
        let mut out = Writer::default();
        labels.save(&mut out);
        assert_eq!(Labels::load(&mut Reader::new(&out.into_bytes())), Ok(labels));
    }

    #[test]
    fn texts_are_bounded_and_links_lose_their_password() {
        use ResourceAttribute::{PipelineRunUrl, Repository, Revision};
        let long = "é".repeat(1_000);
        for (attribute, text, expected) in [
            (Revision, "abc", "abc"),
            (Revision, "a\u{1}b\n", "ab"),
            (Revision, long.as_str(), &long[..256]),
            (Repository, "https://user:secret@git.example/a@b", "https://git.example/a@b"),
            (Repository, "https://git.example/a?at=u@h", "https://git.example/a?at=u@h"),
            (Repository, "git.example/a", "git.example/a"),
            (PipelineRunUrl, "https://token@ci", "https://ci"),
        ] {
            let mut labels = Labels::default();
            labels.take(&[attribute], &texts(&[(attribute, text)]));
            assert_eq!(labels.get(attribute), Some(expected));
        }
    }
}
