//! What an exception is called: its type and the names of its top frames, so written that the same fault has
//! the same name after a rebuild. Line numbers, addresses, hashes of bundles, numbers of closures and of
//! generated classes and versions in paths are left out; what is left says where in the code it was thrown.
//!
//! A stack is text from outside. Only what has the shape of a frame is taken from it, and of that only names:
//! messages, arguments, values and whole paths never are.

mod fingerprint;
mod frames;
mod names;
mod paths;
mod recent;
mod shown;

pub use fingerprint::{Exception, Fingerprint, TOP_FRAMES};
pub use frames::top_frames;
pub use recent::Recent;
pub use shown::{New, News, Occurrence, REMEMBERED_S, Showing, Shown, WATCHED_S};
