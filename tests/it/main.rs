//! The one integration binary: everything through the front door, and the rules that the source itself keeps.

mod layering;
mod source;
mod tidy;
