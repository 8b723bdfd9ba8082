//! See the module's own page.
pub mod prometheus;
pub mod promql;
