//! Configuration: `warren.toml` to one resolved spec, with diagnostics that point at the place.

pub mod spec;
