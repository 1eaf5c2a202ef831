//! `Content-Encoding` of OTLP/HTTP bodies. Inflation stops at the size limit, so a small body cannot become a
//! large one.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};

use super::status::Refusal;

/// Largest window a zstd frame may ask for, as a power of two: 64 MiB, what a message may have at most by
/// default.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    /// `deflate` and `zlib`: both mean a zlib stream.
    Zlib,
}

impl Encoding {
    /// The encoding named in the header; an error names the ones there are.
    pub(super) fn named(header: Option<&[u8]>) -> Result<Self, Refusal> {
        let name = header.unwrap_or_default().trim_ascii().to_ascii_lowercase();
        match name.as_slice() {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            b"zstd" => Ok(Self::Zstd),
            b"deflate" | b"zlib" => Ok(Self::Zlib),
            _ => Err(Refusal::Malformed(format!(
                "unsupported Content-Encoding `{}`; supported are gzip, zstd, deflate and identity",
                String::from_utf8_lossy(&name)
            ))),
        }
    }

    /// The inflated body, of at most `limit` bytes.
    pub(super) fn inflate(self, body: Bytes, limit: usize) -> Result<Bytes, Refusal> {
        let inflated = match self {
            Self::Identity => return Ok(body),
            Self::Gzip => read_limited(MultiGzDecoder::new(&body[..]), limit),
            Self::Zlib => read_limited(ZlibDecoder::new(&body[..]), limit),
            Self::Zstd => zstd_decoder(&body).and_then(|decoder| read_limited(decoder, limit)),
        };
        match inflated {
            Ok(Some(body)) => Ok(body),
            Ok(None) => Err(Refusal::TooLarge(limit)),
            Err(error) => Err(Refusal::Malformed(format!("cannot inflate the body: {error}"))),
        }
    }
}

fn zstd_decoder(body: &[u8]) -> io::Result<impl Read + '_> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// `None` when there is more than `limit`.
fn read_limited(from: impl Read, limit: usize) -> io::Result<Option<Bytes>> {
    let mut out = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut out)?;
    Ok((out.len() <= limit).then(|| out.into()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn h3_every_encoding_comes_back() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(b"hello").unwrap();
        let zlib = zlib.finish().unwrap();
        let cases: [(&str, Vec<u8>); 6] = [
            ("identity", b"hello".to_vec()),
            ("gzip", gzip(b"hello")),
            ("GZIP", [gzip(b"hel"), gzip(b"lo")].concat()),
            ("zstd", zstd::encode_all(&b"hello"[..], 1).unwrap()),
            ("deflate", zlib.clone()),
            ("zlib", zlib),
        ];
        for (name, body) in cases {
            let encoding = Encoding::named(Some(name.as_bytes())).unwrap();
            assert_eq!(encoding.inflate(body.into(), 5).unwrap(), "hello", "{name}");
        }
        assert!(Encoding::named(Some(b"br")).is_err());
    }

    #[test]
    fn h4_the_limit_holds_for_inflated_bytes() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert_eq!(Encoding::Gzip.inflate(bomb.into(), 1 << 19), Err(Refusal::TooLarge(1 << 19)));
        assert!(matches!(Encoding::Gzip.inflate(b"junk".as_slice().into(), 9), Err(Refusal::Malformed(_))));
    }
}
