//! Field types of tolerant OTLP/JSON: each reads every spelling that some sender uses.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// A list; `null` is an empty one, and so is a `null` among its elements.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list or null")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(item) = items.next_element::<Option<T>>()? {
                all.extend(item);
            }
            Ok(all)
        }
    }
    from.deserialize_any(List(PhantomData))
}

/// Text; `null` is empty.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(from)?.unwrap_or_default())
}

/// A whole number that fits `T`, as number or text; `null` is 0.
pub(super) fn whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(from: D) -> Result<T, D::Error> {
    let Whole(number) = Whole::deserialize(from)?;
    T::try_from(number).map_err(|_| de::Error::custom(format_args!("{number} is out of range")))
}

/// An enum by number, number in quotes, or name.
pub(super) fn span_kind<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    enumerated(from, |name| SpanKind::from_str_name(name).map(|v| v as i32))
}

/// See [`span_kind`].
pub(super) fn status_code<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
    enumerated(from, |name| StatusCode::from_str_name(name).map(|v| v as i32))
}

fn enumerated<'de, D: Deserializer<'de>>(
    from: D,
    by_name: impl Fn(&str) -> Option<i32>,
) -> Result<i32, D::Error> {
    match Scalar::deserialize(from)? {
        Scalar::Text(name) => by_name(&name)
            .or_else(|| name.parse().ok())
            .ok_or_else(|| de::Error::custom(format_args!("unknown enum value `{name}`"))),
        scalar => {
            let number = scalar.whole().ok_or_else(|| de::Error::custom("not an enum value"))?;
            i32::try_from(number).map_err(|_| de::Error::custom("enum value out of range"))
        }
    }
}

/// A whole number of any width.
pub(super) struct Whole(pub(super) i128);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Scalar::deserialize(from)?.whole().map(Self).ok_or_else(|| de::Error::custom("not a whole number"))
    }
}

/// A double, as number or text; `NaN` and the infinities are text.
pub(super) struct Double(pub(super) f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = match Scalar::deserialize(from)? {
            Scalar::Null => Some(0.0),
            Scalar::Whole(number) => Some(number as f64),
            Scalar::Double(number) => Some(number),
            // Reads `NaN`, `Infinity` and `-Infinity` too.
            Scalar::Text(text) => text.trim().parse().ok(),
        };
        number.map(Self).ok_or_else(|| de::Error::custom("not a number"))
    }
}

/// An id in hex. Text that is no hex becomes an id of one byte: of the wrong length, so that its span is
/// rejected and not the whole batch.
pub(super) fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    const NO_ID: [u8; 1] = [0];
    let text = text(from)?;
    let nibble = |digit: u8| char::from(digit).to_digit(16).map(|n| n as u8);
    let bytes = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
        _ => None,
    });
    Ok(bytes.collect::<Option<Vec<u8>>>().unwrap_or_else(|| NO_ID.to_vec()))
}

/// Bytes in base64.
pub(super) struct Base64(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        STANDARD.decode(text(from)?).map(Self).map_err(de::Error::custom)
    }
}

/// Any scalar that a number or enum may be written as.
enum Scalar {
    Null,
    Whole(i128),
    Double(f64),
    Text(String),
}

impl Scalar {
    fn whole(self) -> Option<i128> {
        match self {
            Self::Null => Some(0),
            Self::Whole(number) => Some(number),
            Self::Double(number) if number.fract() == 0.0 => Some(number as i128),
            Self::Double(_) => None,
            Self::Text(text) if text.is_empty() => Some(0),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyScalar;
        impl Visitor<'_> for AnyScalar {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, as number or text")
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Null)
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Whole(number.into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Whole(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar::Double(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(match text.parse() {
                    Ok(number) => Scalar::Whole(number),
                    Err(_) => Scalar::Text(text.to_owned()),
                })
            }
        }
        from.deserialize_any(AnyScalar)
    }
}
