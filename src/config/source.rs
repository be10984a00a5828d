//! Where a value comes from.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// This variable of the environment.
    Environment(Arc<str>),
    /// This line of this file.
    File(Arc<str>, usize),
    /// The program.
    Program,
}

impl Source {
    /// The variable as a mistake names it, with where it is set.
    pub(super) fn label(&self, variable: &str) -> String {
        match self {
            Self::Environment(name) => name.to_string(),
            Self::Default => variable.to_owned(),
            place => format!("{variable} ({place})"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment(name) => write!(f, "environment, {name}"),
            Self::File(path, line) => write!(f, "{path}, line {line}"),
            Self::Program => f.write_str("the program"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
