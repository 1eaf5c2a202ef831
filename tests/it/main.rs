//! The one integration binary: everything through the front door.

mod receive;
