//! The `rollguard` program: sets what the whole process shares and hands over to the command line.
//!
//! The allocator counts what it hands out, for the memory limiter: what mimalloc and the system tell is pages,
//! and mimalloc keeps those for later. Here is the only unsafe code of the package, and the library forbids it.

use std::alloc::{GlobalAlloc, Layout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use libmimalloc_sys::{mi_option_set, mi_option_t};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// How long pages that are free are kept, in milliseconds. mimalloc's own second is long enough that a process
/// which had much to do once is never seen to give anything back; at 10 ms one that forwards gave pages back between
/// two requests and took them again, for a fifth of its CPU time.
const PURGE_DELAY_MS: std::ffi::c_long = 100;
/// `mi_option_purge_delay` of mimalloc.h, which the bindings leave out between 14 and 16.
const PURGE_DELAY: mi_option_t = 15;

fn main() -> ExitCode {
    give_back_pages();
    rollguard::telemetry::count_allocated_by(allocated);
    // One TLS provider for all clients. It fails only when one is set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    rollguard::cli::main(std::env::args_os())
}

#[expect(unsafe_code, reason = "a function of C")]
fn give_back_pages() {
    // SAFETY: it sets a number in a table of options; one that mimalloc does not know it would ignore.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
}

/// mimalloc, counting the bytes that are allocated.
struct Counted;

/// Several counters, each in a cache line of its own, so that threads seldom meet in one. A single one of them
/// may wrap below zero, where a thread frees what another took; their sum is right.
static TAKEN: [Stripe; STRIPES] = [const { Stripe(AtomicUsize::new(0)) }; STRIPES];
const STRIPES: usize = 16;

#[repr(align(128))]
struct Stripe(AtomicUsize);

thread_local! {
    /// Its address tells threads apart. Without a value to drop it can be used as long as a thread lives.
    static HERE: u8 = const { 0 };
}

/// The counter of this thread.
fn stripe() -> &'static AtomicUsize {
    let here = HERE.try_with(|here| std::ptr::from_ref(here).addr()).unwrap_or(0);
    // The storage of threads is whole pages apart.
    let spread = (here >> 12).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize);
    &TAKEN[spread >> (usize::BITS - STRIPES.ilog2())].0
}

fn took(bytes: usize) {
    stripe().fetch_add(bytes, Ordering::Relaxed);
}

fn gave_back(bytes: usize) {
    stripe().fetch_sub(bytes, Ordering::Relaxed);
}

/// Bytes that are allocated now, as they were asked for.
fn allocated() -> usize {
    let sum = TAKEN.iter().fold(0, |sum: usize, stripe| sum.wrapping_add(stripe.0.load(Ordering::Relaxed)));
    // Read one after another the counters may be a few bytes apart.
    if sum > isize::MAX as usize { 0 } else { sum }
}

// SAFETY: every call is handed to mimalloc as it came, and so is its answer; counting touches neither.
#[expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one only counts")]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is mimalloc's too. So below.
        let block = unsafe { MiMalloc.alloc(layout) };
        if !block.is_null() {
            took(layout.size());
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see above.
        let block = unsafe { MiMalloc.alloc_zeroed(layout) };
        if !block.is_null() {
            took(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { MiMalloc.dealloc(block, layout) };
        gave_back(layout.size());
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: see above.
        let moved = unsafe { MiMalloc.realloc(block, layout, size) };
        if !moved.is_null() {
            took(size);
            gave_back(layout.size());
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_counted_across_threads() {
        const LARGE: usize = 64 << 20;
        let before = allocated();
        let mut block: Vec<u8> = Vec::with_capacity(LARGE);
        // Other tests allocate too, but not by megabytes.
        let near = |expected: usize| allocated().abs_diff(before + expected) < 4 << 20;
        assert!(near(LARGE), "{before} {}", allocated());
        block.reserve_exact(2 * LARGE);
        assert!(near(2 * LARGE), "{before} {}", allocated());
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| vec![1_u8; 8 << 20])).collect();
        let blocks: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect();
        assert!(near(3 * LARGE), "{before} {}", allocated());
        std::thread::spawn(move || drop(blocks)).join().unwrap_or_default();
        drop(block);
        assert!(near(0), "{before} {}", allocated());
    }
}
