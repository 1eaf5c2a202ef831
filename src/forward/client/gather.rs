//! Writes that are put together. HTTP/2 cuts a body into frames of 16 KiB, for servers rarely take more, and the client
//! library writes and flushes each of them; every write travels through the network stack and wakes the other
//! side. Put together four at a time they cost half as much.
//!
//! A flush is put off while something was written since the one before it, and the task is woken to flush again: a
//! task that goes on writing gathers, and one that has nothing more to write flushes at its next turn.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

/// Gathered up to this: what the network stack takes as one piece.
const GATHERED_BYTES: usize = 64 << 10;

/// A stream whose writes are gathered.
pub(super) struct Gathered<S> {
    stream: S,
    waiting: Vec<u8>,
    /// What of it is written already.
    written: usize,
    /// Whether something was added since the last flush.
    is_new: bool,
}

impl<S> Gathered<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, waiting: Vec::new(), written: 0, is_new: false }
    }

    pub(super) const fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Write + Unpin> Gathered<S> {
    fn poll_empty(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.written += bytes,
            }
        }
        self.waiting.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: Write + Unpin> Write for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.waiting.len() >= GATHERED_BYTES {
            ready!(this.poll_empty(context))?;
        }
        let mut taken = 0;
        for slice in from {
            let room = GATHERED_BYTES - this.waiting.len();
            let slice = &slice[..slice.len().min(room)];
            this.waiting.extend_from_slice(slice);
            taken += slice.len();
        }
        this.is_new |= taken > 0;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.is_new) {
            context.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_empty(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_empty(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

impl<S: Read + Unpin> Read for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    /// Takes a few bytes at a time, and now and then none.
    #[derive(Default)]
    struct Slow {
        got: Vec<u8>,
        writes: usize,
        flushes: usize,
        most: usize,
    }

    impl Write for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            from: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes += 1;
            if self.writes.is_multiple_of(3) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let bytes = from.len().min(self.most);
            self.got.extend_from_slice(&from[..bytes]);
            Poll::Ready(Ok(bytes))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(stream: &mut Gathered<Slow>, context: &mut Context<'_>, mut from: &[u8]) {
        while !from.is_empty() {
            let pieces =
                [io::IoSlice::new(&from[..from.len().min(9)]), io::IoSlice::new(&from[from.len().min(9)..])];
            if let Poll::Ready(bytes) = Pin::new(&mut *stream).poll_write_vectored(context, &pieces) {
                from = &from[bytes.unwrap()..];
            }
        }
    }

    #[test]
    fn what_is_written_leaves_at_the_second_flush_or_when_much_waits() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut stream = Gathered::new(Slow { most: usize::MAX, ..Slow::default() });
        for frame in 1..=3 {
            write(&mut stream, &mut context, &[frame; 100]);
            assert!(Pin::new(&mut stream).poll_flush(&mut context).is_ready());
            assert_eq!(woken.0.load(Ordering::Relaxed), usize::from(frame), "the task comes back to flush");
        }
        assert!(stream.stream.got.is_empty());
        assert!(Pin::new(&mut stream).poll_flush(&mut context).is_ready());
        assert_eq!((stream.stream.got.len(), stream.stream.writes, stream.stream.flushes), (300, 1, 1));
        write(&mut stream, &mut context, &[4; GATHERED_BYTES + 1]);
        assert_eq!(stream.stream.got.len(), 300 + GATHERED_BYTES);
    }

    #[test]
    fn all_arrives_in_order_however_little_is_taken_at_a_time() {
        let mut context = Context::from_waker(Waker::noop());
        for most in [1, 7, 4_096, usize::MAX] {
            let all: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
            let mut stream = Gathered::new(Slow { most, ..Slow::default() });
            for frame in all.chunks(16_393) {
                write(&mut stream, &mut context, frame);
                assert!(Pin::new(&mut stream).poll_flush(&mut context).is_ready());
            }
            while Pin::new(&mut stream).poll_shutdown(&mut context).is_pending() {}
            assert!(stream.stream.got == all, "{most} bytes at a time");
        }
    }
}
