//! The `rollguard` program: sets what the whole process shares and hands over to the command line.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One TLS provider for all clients. It fails only when one is set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    rollguard::cli::main(std::env::args_os())
}
