//! What goes into the body of an export request: the pieces behind one another as they are, or compressed at
//! the cheapest level. Made once for all attempts. Plain pieces are not copied.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::num::NonZero;
use std::pin::Pin;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Semaphore;
use zstd::zstd_safe::{CCtx, CParameter};

use super::Compression;

/// The cheapest levels: the highest ones cost many times as much and save a tenth.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;
/// From here on compressing is long enough to be done off the threads that answer.
pub(super) const LONG_BYTES: usize = 128 << 10;

/// Size of the chunks that compressed bodies are made of.
const CHUNK_BYTES: usize = 64 << 10;

/// Compressing keeps a core busy: more at a time than there are cores would gain nothing and take memory for all.
static CORES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(cores()));

/// What zstd works in: 1.3 MiB each, which it takes from the system's allocator, and so past the one that the
/// memory limiter asks. Made anew for each body they would come and go in every thread that ever compressed, and that
/// allocator keeps pages for each thread; kept, there are as many as there are cores.
static ZSTD: Mutex<Vec<CCtx<'static>>> = Mutex::new(Vec::new());

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Compresses messages away from the threads that answer, when a core is free for it.
pub(super) async fn compress(messages: Vec<Bytes>, compression: Compression) -> Payload {
    // Nobody closes the semaphore.
    let core = CORES.acquire().await;
    let plain = messages.clone();
    let payload = tokio::task::spawn_blocking(move || Payload::new(messages, compression)).await;
    drop(core);
    payload.unwrap_or_else(|_| Payload::new(plain, Compression::None))
}

/// A body, ready to be sent as often as it takes.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    pub(super) compression: Compression,
    chunks: Vec<Bytes>,
}

impl Payload {
    /// Compresses messages, one behind the other.
    pub(super) fn new(messages: Vec<Bytes>, compression: Compression) -> Self {
        let compressed = match compression {
            Compression::None => return Self { compression, chunks: messages },
            Compression::Gzip => gzip(&messages),
            Compression::Zstd => zstd(&messages),
        };
        match compressed {
            Ok(chunks) => Self { compression, chunks },
            // Writing into memory does not fail; if it ever did, the plain message is as good.
            Err(_) => Self { compression: Compression::None, chunks: messages },
        }
    }

    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// The messages behind one another; only where they were not compressed.
    pub(super) fn plain(&self) -> Bytes {
        match &self.chunks[..] {
            [one] => one.clone(),
            several => several.concat().into(),
        }
    }

    /// The body, behind a prefix where there is one.
    pub(super) fn body(&self, prefix: Option<Bytes>) -> Chunks {
        Chunks(
            prefix.into_iter().chain(self.chunks.iter().cloned()).filter(|chunk| !chunk.is_empty()).collect(),
        )
    }

    /// The word for it in headers.
    pub(super) const fn coding(&self) -> Option<&'static str> {
        match self.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }
}

fn gzip(messages: &[Bytes]) -> io::Result<Vec<Bytes>> {
    let mut encoder = flate2::write::GzEncoder::new(Output::default(), flate2::Compression::new(GZIP_LEVEL));
    messages.iter().try_for_each(|message| encoder.write_all(message))?;
    encoder.finish().map(Output::chunks)
}

fn zstd(messages: &[Bytes]) -> io::Result<Vec<Bytes>> {
    let kept = || ZSTD.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = kept().pop();
    let mut context = match taken {
        Some(context) => context,
        None => zstd_context()?,
    };
    // What an earlier body left unfinished in the context is forgotten here.
    let mut encoder = zstd::stream::write::Encoder::with_context(Output::default(), &mut context);
    encoder.set_pledged_src_size(Some(messages.iter().map(|message| message.len() as u64).sum()))?;
    messages.iter().try_for_each(|message| encoder.write_all(message))?;
    let chunks = encoder.finish().map(Output::chunks)?;
    let mut kept = kept();
    if kept.len() < cores() {
        kept.push(context);
    }
    Ok(chunks)
}

fn zstd_context() -> io::Result<CCtx<'static>> {
    let failed = |code| io::Error::other(zstd::zstd_safe::get_error_name(code));
    let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    context.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL)).map_err(failed)?;
    Ok(context)
}

/// What was compressed, in chunks: a single one that grows would be copied, and take three times its size then.
#[derive(Default)]
struct Output {
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Output {
    fn chunks(mut self) -> Vec<Bytes> {
        self.open.shrink_to_fit();
        self.full.push(self.open.into());
        self.full
    }
}

impl Write for Output {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let bytes = from.len().min(CHUNK_BYTES - self.open.len());
        self.open.extend_from_slice(&from[..bytes]);
        if self.open.len() == CHUNK_BYTES {
            self.full.push(std::mem::take(&mut self.open).into());
        }
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A body in chunks.
#[derive(Debug, Default)]
pub(super) struct Chunks(VecDeque<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|chunk| chunk.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Bodies of all sizes behind one another in the same contexts, from several threads.
    #[test]
    fn contexts_that_were_used_before_make_whole_bodies() {
        let compressed = |thread: usize| {
            for size in [0, 1, 900_000, 17, 128 << 10, 3 << 20, 2] {
                let message: Vec<u8> = (0..size).map(|n| (n * n / 7 + thread) as u8).collect();
                let chunks = zstd(&[message.clone().into(), Bytes::from_static(b"end")]).unwrap().concat();
                assert_eq!(zstd::decode_all(&chunks[..]).unwrap(), [&message[..], b"end"].concat());
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|thread| _ = scope.spawn(move || compressed(thread))));
        assert!((1..=cores()).contains(&ZSTD.lock().unwrap().len()));
    }

    #[test]
    fn every_compression_holds_the_messages_behind_one_another() {
        let long: Vec<u8> = (0..400_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let messages = [vec![7_u8; 5_000], Vec::new(), long, b"tail".to_vec()];
        let whole = messages.concat();
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let payload = Payload::new(messages.iter().cloned().map(Bytes::from).collect(), compression);
            let sent: Vec<u8> = payload.body(None).0.iter().flat_map(|chunk| chunk.to_vec()).collect();
            assert_eq!(sent.len(), payload.len());
            let mut plain = Vec::new();
            match payload.coding() {
                None => plain = sent,
                Some("gzip") => _ = flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut plain).unwrap(),
                Some(_) => plain = zstd::decode_all(&sent[..]).unwrap(),
            }
            assert_eq!(plain, whole, "{compression:?}");
            assert_eq!(
                payload.body(Some(Bytes::from_static(b"12345"))).size_hint().exact(),
                Some(payload.len() as u64 + 5)
            );
        }
    }
}
