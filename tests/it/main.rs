//! The one integration binary: everything through the front door, and the rules that the source itself keeps.

mod golden;
mod layering;
mod source;
mod tidy;
