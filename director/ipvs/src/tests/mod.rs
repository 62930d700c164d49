//! Tests of whole messages.

mod answers;
mod any_bytes;
mod recorded;
mod refusals;
