//! A queue on disk for messages that are on their way out. What a client was told is accepted must leave even
//! when this process is killed, and what waits for a backend that is away must not wait in memory. So messages
//! are appended to files (segments), read back in the order in which they came, and marked when they have been
//! delivered; a segment is deleted when all that is in it was.
//!
//! Invariants:
//! - At least once. A message is in the page cache before its client is answered (so it survives `kill -9`), on
//!   the disk with `fsync`; a message is marked in the file before its consumer goes on. So after a kill no more
//!   messages are sent twice than were being sent, and none that was answered is missing.
//! - What is not what was written is not served: header, metadata and body have checksums, salted per segment, so
//!   that nothing a client sends can pass for an entry. Damage costs the entries it touches and no others; it is
//!   counted.
//! - Bounded in bytes on disk and in messages. Memory does not grow with what waits: an entry is read when a
//!   consumer asks for it.
//! - Some space of the file system stays free for the decisions (the store): the queue refuses before it takes
//!   that.
//! - One process per directory. Files of another version of the format are refused and left as they are.
//!
//! [`Log`] is the queue as a plain value, which its caller drives and owns; [`Spool`] is the handle for many
//! tasks, with a thread behind it that does the reading and writing. `docs/queue-format.md` describes the files.

mod directory;
mod error;
mod format;
mod log;
mod metrics;
mod queue;
mod recovery;
mod segment;
mod worker;

pub use directory::{FileStorageConfig, SpoolDirectory};
pub use error::{AppendError, SpoolError};
pub use format::{Position, record_bytes};
pub use log::{Entry, Log, LogConfig};
pub use queue::{Appended, Delivery, NoRoom, Reservation, Spool, SpoolConfig, Usage};
pub use recovery::Recovered;
