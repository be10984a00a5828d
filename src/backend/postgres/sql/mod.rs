//! What this crate knows about SQL: where the parameters are, what kind of statement it
//! is, how values are written. It is no parser: whatever it does not know for sure counts
//! as the case that is slower and safe.

mod functions;
mod insert;
mod lexer;
pub(super) mod literal;
mod plain;
mod reply;
mod statement;
mod value;
mod words;

pub(super) use self::insert::{Insert, Part};
pub(super) use self::plain::Plain;
pub use self::reply::{FromSqlText, SqlIndex, SqlReply, SqlRow};
pub(super) use self::statement::{Statement, known};
pub use self::value::SqlValue;
