//! Sampling weights from `tracestate`: OpenTelemetry's member `ot` of the W3C list, its sub-keys `th` (the
//! rejection threshold) and `rv` (explicit randomness). A span that was kept with threshold T stands for
//! 2^56 / (2^56 - T) spans. Source: OpenTelemetry specification, "TraceState: probability sampling".

use crate::model::SamplingWeight;

/// 2^56: thresholds and randomness are 56-bit numbers.
const WHOLE: u64 = 1 << 56;
const DIGITS: usize = 14;

/// The weight that `state` gives to a span of the trace `trace_id`.
pub fn sampling_weight(state: &[u8], trace_id: &[u8]) -> SamplingWeight {
    if state.is_empty() {
        return SamplingWeight::Unknown;
    }
    let member = state.split(|&b| b == b',').find_map(|member| member.trim_ascii().strip_prefix(b"ot="));
    let Some(member) = member else { return SamplingWeight::Unknown };
    let Some(member) = parse(member) else { return SamplingWeight::Inconsistent };
    let Some(threshold) = member.threshold else { return SamplingWeight::Unknown };
    // Without a trace id there is nothing to hold the threshold against.
    let randomness = member.randomness.or_else(|| randomness_of(trace_id)).unwrap_or(WHOLE - 1);
    if randomness < threshold {
        SamplingWeight::Inconsistent
    } else {
        SamplingWeight::Known(WHOLE as f64 / (WHOLE - threshold) as f64)
    }
}

#[derive(Default)]
struct Member {
    threshold: Option<u64>,
    randomness: Option<u64>,
}

/// `None` when any part is malformed.
fn parse(member: &[u8]) -> Option<Member> {
    let mut parsed = Member::default();
    for pair in member.split(|&b| b == b';') {
        let colon = pair.iter().position(|&b| b == b':')?;
        let (name, value) = (pair.get(..colon)?, pair.get(colon + 1..)?);
        match name {
            b"th" => parsed.threshold = Some(hex(value)?),
            b"rv" if value.len() == DIGITS => parsed.randomness = Some(hex(value)?),
            b"rv" | b"" => return None,
            _ => {}
        }
    }
    Some(parsed)
}

/// 1 to 14 lower-case hex digits, padded with zeros on the right.
fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > DIGITS {
        return None;
    }
    let mut value = 0;
    for &digit in digits {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u64::from(nibble);
    }
    Some(value << (4 * (DIGITS - digits.len())))
}

/// The low 56 bits of a trace id.
fn randomness_of(trace_id: &[u8]) -> Option<u64> {
    let id: [u8; 16] = trace_id.try_into().ok()?;
    Some(u128::from_be_bytes(id) as u64 & (WHOLE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w1_w2_w3_thresholds_become_weights() {
        let id = [0xff; 16];
        let low = [0; 16];
        let cases: [(&str, &[u8], Result<f64, SamplingWeight>); 18] = [
            ("", &id, Err(SamplingWeight::Unknown)),
            ("vendor=x", &id, Err(SamplingWeight::Unknown)),
            ("ot=th:0", &low, Ok(1.0)),
            ("ot=th:8", &id, Ok(2.0)),
            ("ot=th:c", &id, Ok(4.0)),
            ("ot=th:e666", &id, Ok(9.9994)),
            ("ot=th:fd70a4", &id, Ok(100.0001)),
            ("a=b, ot=rv:ffffffffffffff;th:c ,c=d", &low, Ok(4.0)),
            ("ot=x:y;th:8", &id, Ok(2.0)),
            ("ot=rv:00000000000000", &id, Err(SamplingWeight::Unknown)),
            ("ot=th:8", &low, Err(SamplingWeight::Inconsistent)),
            ("ot=th:8;rv:00000000000000", &id, Err(SamplingWeight::Inconsistent)),
            ("ot=th:8;rv:ff", &id, Err(SamplingWeight::Inconsistent)),
            ("ot=th:8", b"", Ok(2.0)),
            ("ot=th:C", &id, Err(SamplingWeight::Inconsistent)),
            ("ot=th:", &id, Err(SamplingWeight::Inconsistent)),
            ("ot=th:000000000000000", &id, Err(SamplingWeight::Inconsistent)),
            ("ot=nonsense", &id, Err(SamplingWeight::Inconsistent)),
        ];
        for (state, trace_id, expected) in cases {
            match (sampling_weight(state.as_bytes(), trace_id), expected) {
                (SamplingWeight::Known(got), Ok(want)) => {
                    assert!((got - want).abs() < want * 1e-5, "{state}: {got}")
                }
                (got, want) => assert_eq!(Err(got), want, "{state}"),
            }
        }
    }
}
