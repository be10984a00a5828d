//! The operation of managers that have none.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Envelope, Operation};

/// The operation type of a [`Backend`](crate::backend::Backend) that runs none: there is
/// no value of it.
///
/// ```
/// # use millpond::{NoOperation, backend::Backend};
/// # fn execute(operation: &NoOperation) -> Result<(), millpond::Error> {
/// match *operation {}
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOperation {}

impl Operation for NoOperation {
    fn envelope(&self) -> &Envelope {
        match *self {}
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        match *self {}
    }

    fn statement(&self) -> Cow<'_, str> {
        match *self {}
    }
}

impl Serialize for NoOperation {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for NoOperation {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("this backend has no operations"))
    }
}
