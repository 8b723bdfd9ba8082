//! See the module's own page.

pub mod kubernetes;
