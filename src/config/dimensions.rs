//! What is wrong with the dimensions of a policy, and the way out: names that cannot be attributes, too many of them,
//! regions that no attribute names.

use std::collections::BTreeMap;

use super::validate::Checks;
use crate::model::{DIMENSION_VALUES_MAX, DIMENSIONS_MAX};
use crate::pipeline::config::{DimensionConfig, PoliciesConfig, PolicyOverride, RegionsConfig};
use crate::verdict::OPERATION;

/// Longest name of an attribute.
const NAME_BYTES: usize = 128;

/// Checks the dimensions of all blocks; `blocks` are those beside the defaults, with their paths.
pub(super) fn check(policies: &PoliciesConfig, blocks: &[(String, &PolicyOverride)], checks: &mut Checks) {
    let defaults = &policies.defaults;
    let none = (&BTreeMap::new(), &RegionsConfig::default());
    let of_defaults = (&defaults.dimensions, &defaults.regions);
    block("policies.defaults", of_defaults, none, checks);
    for (path, policy) in blocks {
        block(path, (&policy.dimensions, &policy.regions), of_defaults, checks);
    }
    let mut named = blocks.iter().map(|(_, policy)| &policy.regions).chain([&defaults.regions]);
    if named.any(|regions| regions.attribute.is_some()) {
        return;
    }
    for (path, policy) in blocks {
        let message = "no block names the attribute of the regions; add `attribute: cloud.region`";
        checks.require(policy.regions.action.is_none(), &format!("{path}.regions.action"), message);
    }
}

/// What of a policy tells requests apart.
type Block<'a> = (&'a BTreeMap<String, DimensionConfig>, &'a RegionsConfig);

/// A block adds to the dimensions of those below it.
fn number(path: &str, (dimensions, regions): Block<'_>, below: Block<'_>, checks: &mut Checks) {
    let regions = regions.attribute.as_ref().or(below.1.attribute.as_ref());
    let mut enabled: BTreeMap<&String, bool> = BTreeMap::new();
    for (name, dimension) in below.0.iter().chain(dimensions) {
        let is_enabled = enabled.entry(name).or_insert(true);
        *is_enabled = dimension.enabled.unwrap_or(*is_enabled);
    }
    let others = enabled.iter().filter(|(name, is_enabled)| **is_enabled && regions != Some(**name)).count();
    let all = others + usize::from(regions.is_some());
    let message = format!(
        "makes {all} dimensions with the regions and those of policies.defaults; at most {DIMENSIONS_MAX} are told \
         apart: remove some, or disable those of the defaults (`{{enabled: false}}`)"
    );
    checks.require(all <= DIMENSIONS_MAX, &format!("{path}.dimensions"), message);
}

fn block(path: &str, own: Block<'_>, below: Block<'_>, checks: &mut Checks) {
    let (dimensions, regions) = own;
    number(path, own, below, checks);
    for (name, dimension) in dimensions {
        let path = format!("{path}.dimensions.{name}");
        attribute(&path, name, checks);
        let fits = dimension.values.is_none_or(|n| (1..=DIMENSION_VALUES_MAX).contains(&usize::from(n)));
        let message = format!(
            "must be between 1 and {DIMENSION_VALUES_MAX}: each value is remembered like a service of its own, and \
             the rest is one value, (other)"
        );
        checks.require(fits, &format!("{path}.values"), message);
    }
    if let Some(name) = &regions.attribute {
        let path = format!("{path}.regions.attribute");
        attribute(&path, name, checks);
        let is_off = dimensions.get(name).is_some_and(|dimension| dimension.enabled == Some(false));
        let message = format!("names {name}, which `dimensions` disables; remove one of the two");
        checks.require(!is_off, &path, message);
    }
}

fn attribute(path: &str, name: &str, checks: &mut Checks) {
    let is_name = !name.is_empty()
        && name.len() <= NAME_BYTES
        && !name.contains(|c: char| c == '=' || c.is_control() || c.is_whitespace());
    let message = format!(
        "must be the name of an attribute of the span or its resource, without spaces and `=` and of at most \
         {NAME_BYTES} bytes, for example `cloud.region`"
    );
    checks.require(is_name, path, message);
    let message = format!(
        "must not be {OPERATION:?}: the scope of a change calls the operation so (`--scope operation=..`). Copy the \
         attribute to another name, for example with the Collector's transform processor"
    );
    checks.require(name != OPERATION, path, message);
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn problem(policy: &str) -> String {
        match parse(&format!("policies:\n  services:\n    - policy: {policy}\n"), |_| None) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn blocks_add_up_with_the_defaults() {
        let of = |service: &str| {
            let policies = format!(
                "policies:\n  defaults: {{dimensions: {{a: {{}}, b: {{}}}}}}\n  services:\n    - policy: {service}\n"
            );
            parse(&policies, |_| None).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(of("{dimensions: {c: {}}}"), "");
        assert_eq!(of("{dimensions: {c: {}, a: {enabled: false}}, regions: {attribute: zone}}"), "");
        let found = of("{dimensions: {c: {}}, regions: {attribute: zone}}");
        assert!(
            found.contains("makes 4 dimensions with the regions and those of policies.defaults"),
            "{found}"
        );
    }

    #[test]
    fn what_cannot_be_says_where_and_the_way_out() {
        let sound = [
            "{dimensions: {client.class: {values: 4}, tier: {}}, regions: {attribute: cloud.region}}",
            "{dimensions: {tier: {enabled: false}}, regions: {attribute: zone, action: fail}}",
        ];
        for policy in sound {
            assert_eq!(problem(policy), "", "{policy}");
        }
        let rows: [(&str, &[&str]); 7] = [
            ("{dimensions: {a b: {}}}", &["dimensions.a b", "name of an attribute"]),
            ("{dimensions: {a: {values: 17}}}", &["dimensions.a.values", "between 1 and 16", "(other)"]),
            ("{dimensions: {a: {values: 0}}}", &["between 1 and 16"]),
            ("{dimensions: {a: {}, b: {}, c: {}, d: {}}}", &["makes 4 dimensions", "at most 3"]),
            (
                "{dimensions: {a: {}, b: {}, c: {}}, regions: {attribute: d}}",
                &["makes 4 dimensions", "at most 3"],
            ),
            ("{regions: {action: fail}}", &["regions.action", "attribute: cloud.region"]),
            (
                "{dimensions: {a: {enabled: false}}, regions: {attribute: a}}",
                &["regions.attribute", "disables"],
            ),
        ];
        for policy in ["{dimensions: {operation: {}}}", "{regions: {attribute: operation}}"] {
            let found = problem(policy);
            assert!(found.contains("must not be \"operation\": the scope of a change"), "{policy}: {found}");
        }
        let four = problem("{dimensions: {a: {}, b: {}, c: {}, d: {}}}");
        assert_eq!(four.matches("4 dimensions").count(), 1, "said once: {four}");
        for (policy, expected) in rows {
            let found = problem(policy);
            for part in expected {
                assert!(found.contains(part), "{policy}\nshould say {part:?}, says:\n{found}");
            }
        }
    }
}
