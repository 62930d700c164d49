//! Raw bindings to DPDK, made by bindgen from the installed headers.
//!
//! Nothing here is safe to call without DPDK's programmer's guide at hand; the
//! `dpdk` crate is the layer to use. `build.rs` lists what is bound. Inline
//! functions of the headers are bound through C wrappers, so calling one costs
//! a function call.

#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    unnameable_types,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction
)]
#![allow(rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
