//! Dimensions of a policy as a user writes them: by which attributes requests are told apart beside their operation,
//! how many values of each, and which of them are regions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::DIMENSIONS_MAX;
use crate::verdict::{Dimension, RegionAction, Regions};

/// Values of a dimension that are told apart unless it says otherwise.
const VALUES: u8 = 8;

/// One dimension.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DimensionConfig {
    /// Values that are told apart, the first to come; the rest is one. 8 where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<u8>,
    /// `false` takes a dimension away that another block has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl DimensionConfig {
    /// Writes what `over` sets over this.
    pub(super) fn overlay(&mut self, over: &Self) {
        self.values = over.values.or(self.values);
        self.enabled = over.enabled.or(self.enabled);
    }
}

/// Which dimension is the regions, and what one that is worse leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegionsConfig {
    /// The attribute that names them, for example `cloud.region`; it is a dimension then.
    pub attribute: Option<String>,
    /// What one that is worse leads to.
    pub action: Option<RegionActionConfig>,
}

impl RegionsConfig {
    /// Writes what `over` sets over this.
    pub(super) fn overlay(&mut self, over: &Self) {
        if over.attribute.is_some() {
            self.attribute.clone_from(&over.attribute);
        }
        self.action = over.action.or(self.action);
    }
}

/// `report` or `fail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionActionConfig {
    /// Tell it, and let no version pass.
    #[default]
    Report,
    /// Fail the version, in that region if the others are well.
    Fail,
}

impl From<RegionActionConfig> for RegionAction {
    fn from(action: RegionActionConfig) -> Self {
        match action {
            RegionActionConfig::Report => Self::Report,
            RegionActionConfig::Fail => Self::Fail,
        }
    }
}

/// In the words of the core: the regions first, then the others by name. More than a service may have are left out,
/// which the check of the configuration refuses.
pub(super) fn resolve(
    dimensions: &BTreeMap<String, DimensionConfig>,
    regions: &RegionsConfig,
) -> (Vec<Dimension>, Option<Regions>) {
    let mut all: Vec<Dimension> = Vec::new();
    let mut add = |attribute: &String, config: Option<&DimensionConfig>| {
        let is_enabled = config.is_none_or(|config| config.enabled != Some(false));
        if is_enabled && all.len() < DIMENSIONS_MAX && !all.iter().any(|known| known.attribute == *attribute)
        {
            let values = config.and_then(|config| config.values).unwrap_or(VALUES);
            all.push(Dimension { attribute: attribute.clone(), values });
        }
    };
    if let Some(attribute) = &regions.attribute {
        add(attribute, dimensions.get(attribute));
    }
    dimensions.iter().for_each(|(attribute, config)| add(attribute, Some(config)));
    let known = |attribute: &&String| all.iter().any(|known| known.attribute == **attribute);
    let regions = regions.attribute.as_ref().filter(known).map(|attribute| Regions {
        attribute: attribute.clone(),
        action: regions.action.unwrap_or_default().into(),
    });
    (all, regions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_come_first_and_what_is_disabled_is_none() {
        let config = |values, enabled| DimensionConfig { values, enabled };
        let dimensions = BTreeMap::from([
            ("a".to_owned(), config(Some(3), None)),
            ("b".to_owned(), config(None, Some(false))),
            ("region".to_owned(), config(Some(4), None)),
        ]);
        let regions =
            RegionsConfig { attribute: Some("region".into()), action: Some(RegionActionConfig::Fail) };
        let (all, known) = resolve(&dimensions, &regions);
        let names: Vec<_> = all.iter().map(|d| (d.attribute.as_str(), d.values)).collect();
        assert_eq!(names, [("region", 4), ("a", 3)]);
        assert_eq!(known, Some(Regions { attribute: "region".into(), action: RegionAction::Fail }));
        let none = resolve(&BTreeMap::new(), &RegionsConfig::default());
        assert_eq!(none, (Vec::new(), None));
        let alone = RegionsConfig { attribute: Some("zone".into()), action: None };
        let (all, known) = resolve(&BTreeMap::new(), &alone);
        assert_eq!((all[0].values, known.map(|r| r.action)), (VALUES, Some(RegionAction::Report)));
    }
}
