//! The byte codec of state snapshots: little-endian, length-prefixed, no self-description. The core has no
//! serde by design; what survives a restart is written field by field, so a reader sees what is kept. A
//! snapshot is read back only by the program version that wrote it (see [`Reader::header`]); anything else
//! is refused and the program starts from what it remembers durably elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Bumped whenever any `Snapshot` impl changes its layout.
pub const FORMAT: u32 = 16;
const MAGIC: &[u8; 4] = b"RGSN";

/// Why a snapshot could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrupt {
    /// Not a snapshot, or of another format.
    Header,
    /// Ends early, or a length or tag is impossible.
    Body,
}

/// State that survives a restart.
pub trait Snapshot: Sized {
    /// Appends this value.
    fn save(&self, out: &mut Writer);
    /// Reads a value that [`Snapshot::save`] wrote.
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt>;
}

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A buffer that begins with the header.
    pub fn with_header() -> Self {
        let mut writer = Self::default();
        writer.bytes.extend_from_slice(MAGIC);
        FORMAT.save(&mut writer);
        writer
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes values from a buffer; never reads past its end, never trusts a length.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start, without a header.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Checks the header that [`Writer::with_header`] wrote.
    pub fn header(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or(Corrupt::Header)?;
        let mut reader = Self { rest };
        if u32::load(&mut reader).map_err(|_| Corrupt::Header)? == FORMAT {
            Ok(reader)
        } else {
            Err(Corrupt::Header)
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Corrupt> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(Corrupt::Body)?;
        self.rest = rest;
        Ok(head)
    }

    /// A length that the rest of the buffer can hold at one byte an item at least.
    fn length(&mut self) -> Result<usize, Corrupt> {
        let n = u32::load(self)? as usize;
        if n <= self.rest.len() { Ok(n) } else { Err(Corrupt::Body) }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

macro_rules! number {
    ($($t:ty),*) => {$(
        impl Snapshot for $t {
            fn save(&self, out: &mut Writer) {
                out.bytes.extend_from_slice(&self.to_le_bytes());
            }
            fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
                let mut raw = [0; size_of::<$t>()];
                raw.copy_from_slice(from.take(size_of::<$t>())?);
                Ok(<$t>::from_le_bytes(raw))
            }
        }
    )*};
}
number!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

impl Snapshot for bool {
    fn save(&self, out: &mut Writer) {
        u8::from(*self).save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        match u8::load(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Corrupt::Body),
        }
    }
}

impl Snapshot for usize {
    fn save(&self, out: &mut Writer) {
        (*self as u64).save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        usize::try_from(u64::load(from)?).map_err(|_| Corrupt::Body)
    }
}

impl Snapshot for String {
    fn save(&self, out: &mut Writer) {
        (self.len() as u32).save(out);
        out.bytes.extend_from_slice(self.as_bytes());
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let n = from.length()?;
        String::from_utf8(from.take(n)?.to_vec()).map_err(|_| Corrupt::Body)
    }
}

impl<T: Snapshot> Snapshot for Option<T> {
    fn save(&self, out: &mut Writer) {
        self.is_some().save(out);
        if let Some(value) = self {
            value.save(out);
        }
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(if bool::load(from)? { Some(T::load(from)?) } else { None })
    }
}

impl<T: Snapshot> Snapshot for Box<T> {
    fn save(&self, out: &mut Writer) {
        self.as_ref().save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self::new(T::load(from)?))
    }
}

impl<T: Snapshot> Snapshot for Arc<T> {
    fn save(&self, out: &mut Writer) {
        self.as_ref().save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self::new(T::load(from)?))
    }
}

impl<T: Snapshot> Snapshot for Vec<T> {
    fn save(&self, out: &mut Writer) {
        (self.len() as u32).save(out);
        self.iter().for_each(|v| v.save(out));
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let n = from.length()?;
        (0..n).map(|_| T::load(from)).collect()
    }
}

impl<T: Snapshot> Snapshot for Box<[T]> {
    fn save(&self, out: &mut Writer) {
        (self.len() as u32).save(out);
        self.iter().for_each(|v| v.save(out));
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Vec::<T>::load(from)?.into())
    }
}

impl<T: Snapshot> Snapshot for VecDeque<T> {
    fn save(&self, out: &mut Writer) {
        (self.len() as u32).save(out);
        self.iter().for_each(|v| v.save(out));
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Vec::<T>::load(from)?.into())
    }
}

impl<K: Snapshot + Ord, V: Snapshot> Snapshot for BTreeMap<K, V> {
    fn save(&self, out: &mut Writer) {
        (self.len() as u32).save(out);
        for (k, v) in self {
            k.save(out);
            v.save(out);
        }
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let n = from.length()?;
        (0..n).map(|_| Ok((K::load(from)?, V::load(from)?))).collect()
    }
}

impl<A: Snapshot, B: Snapshot> Snapshot for (A, B) {
    fn save(&self, out: &mut Writer) {
        self.0.save(out);
        self.1.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok((A::load(from)?, B::load(from)?))
    }
}

impl<A: Snapshot, B: Snapshot, C: Snapshot> Snapshot for (A, B, C) {
    fn save(&self, out: &mut Writer) {
        self.0.save(out);
        self.1.save(out);
        self.2.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok((A::load(from)?, B::load(from)?, C::load(from)?))
    }
}

impl<T: Snapshot + Copy + Default, const N: usize> Snapshot for [T; N] {
    fn save(&self, out: &mut Writer) {
        self.iter().for_each(|v| v.save(out));
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let mut all = [T::default(); N];
        for slot in &mut all {
            *slot = T::load(from)?;
        }
        Ok(all)
    }
}

impl Snapshot for super::UnixNanos {
    fn save(&self, out: &mut Writer) {
        self.0.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self(u64::load(from)?))
    }
}

/// Implements [`Snapshot`] for a struct by listing its fields, in the order in which they are written.
macro_rules! snapshot_fields {
    ($t:ty { $($field:ident),* $(,)? }) => {
        impl $crate::model::snapshot::Snapshot for $t {
            fn save(&self, out: &mut $crate::model::snapshot::Writer) {
                $($crate::model::snapshot::Snapshot::save(&self.$field, out);)*
            }
            fn load(from: &mut $crate::model::snapshot::Reader<'_>) -> Result<Self, $crate::model::snapshot::Corrupt> {
                $(let $field = $crate::model::snapshot::Snapshot::load(from)?;)*
                Ok(Self { $($field),* })
            }
        }
    };
}
pub(crate) use snapshot_fields;

/// Implements [`Snapshot`] for enums without fields, each written as its index in its own `ALL`.
macro_rules! snapshot_index {
    ($($t:ty),*) => {$(
        impl $crate::model::snapshot::Snapshot for $t {
            fn save(&self, out: &mut $crate::model::snapshot::Writer) {
                let index = Self::ALL.iter().position(|v| v == self).unwrap_or(0);
                $crate::model::snapshot::Snapshot::save(&(index as u8), out);
            }
            fn load(from: &mut $crate::model::snapshot::Reader<'_>) -> Result<Self, $crate::model::snapshot::Corrupt> {
                let index = <u8 as $crate::model::snapshot::Snapshot>::load(from)?;
                Self::ALL.get(usize::from(index)).copied().ok_or($crate::model::snapshot::Corrupt::Body)
            }
        }
    )*};
}
pub(crate) use snapshot_index;

snapshot_fields!(super::ServiceKey { namespace, name, environment, extra });
snapshot_fields!(super::VersionKey { service, version });

impl Snapshot for super::DeploymentId {
    fn save(&self, out: &mut Writer) {
        self.0.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self(String::load(from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_truncation_is_refused() {
        let value: (Vec<String>, Option<f64>, BTreeMap<u32, bool>) =
            (vec!["a".into(), "\u{fffd}".into()], Some(-0.5), BTreeMap::from([(7, true), (9, false)]));
        let mut out = Writer::with_header();
        value.save(&mut out);
        let bytes = out.into_bytes();
        let mut reader = Reader::header(&bytes).unwrap();
        assert_eq!(<(Vec<String>, Option<f64>, BTreeMap<u32, bool>)>::load(&mut reader).unwrap(), value);
        assert!(reader.is_empty());
        for cut in 8..bytes.len() {
            let mut reader = Reader::header(&bytes[..cut]).unwrap();
            assert_eq!(
                <(Vec<String>, Option<f64>, BTreeMap<u32, bool>)>::load(&mut reader),
                Err(Corrupt::Body),
                "cut at {cut}"
            );
        }
        assert_eq!(Reader::header(b"nothing").unwrap_err(), Corrupt::Header);
    }
}
