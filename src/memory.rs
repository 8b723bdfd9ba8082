//! See the module's own page.
