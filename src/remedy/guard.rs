//! Where a webhook may connect. A name in the configuration can be made to resolve to the cloud's metadata
//! service or to ourselves; so addresses are checked after resolution, and the connection goes to an address
//! that was checked (there is no second look-up between). Private networks are where deployers live: allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Which of the doubtful addresses are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddressPolicy {
    /// 127.0.0.0/8 and ::1.
    pub loopback: bool,
    /// 169.254.0.0/16, fe80::/10 and the metadata services of the clouds.
    pub link_local: bool,
}

/// Failed to connect because of where the name leads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused to connect to {host}: {address} is {kind}")]
pub struct Refused {
    /// The host as configured.
    pub host: String,
    /// What it resolved to.
    pub address: IpAddr,
    /// What is wrong with that.
    pub kind: &'static str,
}

/// Metadata services outside the link-local ranges: Alibaba Cloud, Azure's wire server, Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// AWS and Google Cloud over IPv6.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

impl AddressPolicy {
    /// What is wrong with an address; `None` when one may connect to it.
    pub fn objection(self, address: IpAddr) -> Option<&'static str> {
        match address {
            IpAddr::V4(v4) => self.objection_v4(v4),
            IpAddr::V6(v6) => match embedded_v4(v6) {
                Some(v4) => self.objection_v4(v4),
                None => self.objection_v6(v6),
            },
        }
    }

    /// Checks a host that is written as an address.
    pub fn check(self, host: &str, address: IpAddr) -> Result<(), Refused> {
        match self.objection(address) {
            None => Ok(()),
            Some(kind) => Err(Refused { host: host.into(), address, kind }),
        }
    }

    fn objection_v4(self, v4: Ipv4Addr) -> Option<&'static str> {
        let [first, ..] = v4.octets();
        if v4.is_loopback() {
            (!self.loopback).then_some("a loopback address")
        } else if METADATA_V4.contains(&v4) || v4 == Ipv4Addr::new(169, 254, 169, 254) {
            (!self.link_local).then_some("a cloud metadata service")
        } else if v4.is_link_local() {
            (!self.link_local).then_some("a link-local address")
        } else if first == 0 {
            Some("no address of a host")
        } else if v4.is_multicast() {
            Some("a multicast address")
        } else {
            (first >= 240).then_some("a reserved or broadcast address")
        }
    }

    fn objection_v6(self, v6: Ipv6Addr) -> Option<&'static str> {
        if v6.is_loopback() {
            (!self.loopback).then_some("a loopback address")
        } else if METADATA_V6.contains(&v6) {
            (!self.link_local).then_some("a cloud metadata service")
        } else if v6.is_unicast_link_local() {
            (!self.link_local).then_some("a link-local address")
        } else if v6.is_unspecified() {
            Some("no address of a host")
        } else {
            v6.is_multicast().then_some("a multicast address")
        }
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped, compatible, NAT64, 6to4.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        // ::1 and :: are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

/// Resolves names and hands on only addresses that may be connected to.
#[derive(Debug, Clone, Copy)]
pub(super) struct GuardedResolver(pub(super) AddressPolicy);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let addresses = allowed(policy, &host, found)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be used; an error when there are some but none may.
fn allowed(
    policy: AddressPolicy,
    host: &str,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, Refused> {
    let mut usable = Vec::new();
    let mut refused = None;
    for address in found {
        match policy.check(host, address.ip()) {
            Ok(()) => usable.push(address),
            Err(why) => refused = Some(why),
        }
    }
    match refused {
        Some(why) if usable.is_empty() => Err(why),
        _ => Ok(usable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (address, objection) in [
            ("10.0.0.7", None),
            ("172.16.3.4", None),
            ("192.168.1.1", None),
            ("203.0.113.9", None),
            ("fd12:3456::1", None),
            ("2001:db8::1", None),
            ("::ffff:10.0.0.7", None),
            ("127.0.0.1", Some("a loopback address")),
            ("127.8.9.1", Some("a loopback address")),
            ("::1", Some("a loopback address")),
            ("::ffff:127.0.0.1", Some("a loopback address")),
            ("::127.0.0.1", Some("a loopback address")),
            ("169.254.1.1", Some("a link-local address")),
            ("fe80::1", Some("a link-local address")),
            ("169.254.169.254", Some("a cloud metadata service")),
            ("::ffff:169.254.169.254", Some("a cloud metadata service")),
            ("64:ff9b::a9fe:a9fe", Some("a cloud metadata service")),
            ("2002:a9fe:a9fe::1", Some("a cloud metadata service")),
            ("100.100.100.200", Some("a cloud metadata service")),
            ("fd00:ec2::254", Some("a cloud metadata service")),
            ("0.0.0.0", Some("no address of a host")),
            ("::", Some("no address of a host")),
            ("224.0.0.1", Some("a multicast address")),
            ("ff02::1", Some("a multicast address")),
            ("255.255.255.255", Some("a reserved or broadcast address")),
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(AddressPolicy::default().objection(parsed), objection, "{address}");
            let open = AddressPolicy { loopback: true, link_local: true };
            let never = objection.filter(|kind| {
                ["no address", "a multicast", "a reserved"].iter().any(|never| kind.starts_with(never))
            });
            assert_eq!(open.objection(parsed), never, "{address} with everything allowed");
        }
    }

    #[test]
    fn a_name_leads_to_what_may_be_used_or_nowhere() {
        let addresses = |list: &[&str]| {
            list.iter().map(|a| SocketAddr::new(a.parse().unwrap(), 0)).collect::<Vec<_>>().into_iter()
        };
        let policy = AddressPolicy::default();
        let good = allowed(policy, "deployer", addresses(&["169.254.169.254", "10.0.0.7"])).unwrap();
        assert_eq!(good.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>(), ["10.0.0.7"]);
        let refused = allowed(policy, "deployer", addresses(&["127.0.0.1", "::1"])).unwrap_err();
        assert_eq!(refused.to_string(), "refused to connect to deployer: ::1 is a loopback address");
        assert!(allowed(policy, "deployer", addresses(&[])).unwrap().is_empty());
    }
}
