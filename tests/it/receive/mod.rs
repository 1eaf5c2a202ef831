//! The receivers through real sockets: what each kind of request is answered, what is counted of it, and what
//! is passed on. Names begin with the rule of the OTLP contract that a test holds.

mod account;
mod backend;
mod cors;
mod disk;
mod forward;
mod grpc;
mod headers;
mod http;
mod memory;
mod resend;
mod retries;
mod support;
mod tls;
mod tls_out;
