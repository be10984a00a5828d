//! What a pool may do for a manager beyond r2d2's trait.
//!
//! r2d2's `ManageConnection` says how to connect and how to check. A backend
//! knows more (which errors can heal, how to clean a connection), and a pool
//! must know it too however it was built: `Pool::new(manager)` takes *any*
//! manager, and stable Rust cannot ask a type parameter whether it implements
//! one more trait. So a backend puts its [`Care`] into this registry, keyed by the
//! manager's type, when a manager is made; a pool looks it up once, when it is
//! built. A manager that nobody adopted gets [`Care::foreign`].

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use r2d2::ManageConnection;

use super::Reset;
use crate::backend::{Service, Traffic};
use crate::error::{ErrorKind, Source, classify_by_io};

type Conn<M> = <M as ManageConnection>::Connection;
type IsClean<M> = fn(&M, &Conn<M>, Reset) -> bool;
type Check<M> = fn(&M, &mut Conn<M>) -> Result<Service, <M as ManageConnection>::Error>;
type Clean<M> = fn(&M, &mut Conn<M>, Reset) -> Result<(), <M as ManageConnection>::Error>;

/// The functions of one manager type.
pub(crate) struct Care<M: ManageConnection> {
    pub(crate) backend: &'static str,
    pub(crate) endpoint: fn(&M) -> String,
    pub(crate) classify: fn(&M::Error) -> ErrorKind,
    pub(crate) capture: fn(M::Error) -> Source,
    /// `None`: always.
    pub(crate) is_clean: Option<IsClean<M>>,
    pub(crate) reset: Clean<M>,
    /// Asks the server how it does; `None`: only `is_valid` does.
    pub(crate) check: Option<Check<M>>,
    /// `None`: they never do.
    pub(crate) credentials_changed: Option<fn(&M) -> Option<bool>>,
    pub(crate) traffic: fn(&M::Connection) -> Traffic,
}

impl<M: ManageConnection> Clone for Care<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: ManageConnection> Copy for Care<M> {}

impl<M: ManageConnection> Care<M> {
    /// For a manager that knows r2d2's trait only.
    fn foreign() -> Self {
        Self {
            backend: "r2d2",
            endpoint: |_| String::new(),
            classify: |error| classify_by_io(error),
            capture: |error| Arc::new(Captured::of(&error)),
            is_clean: None,
            reset: |_, _, _| Ok(()),
            check: None,
            credentials_changed: None,
            traffic: |_| Traffic::default(),
        }
    }
}

type Registry = HashMap<TypeId, Box<dyn Any + Send>>;

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

/// Puts a manager type's care into the registry.
pub(crate) fn adopt<M: ManageConnection>(care: Care<M>) {
    let mut registry = REGISTRY.lock();
    let registry = registry.get_or_insert_default();
    registry
        .entry(TypeId::of::<M>())
        .or_insert_with(|| Box::new(care));
}

/// The care of this manager type: its backend's, or the foreign one.
pub(crate) fn of<M: ManageConnection>() -> Care<M> {
    let registry = REGISTRY.lock();
    let care = registry
        .as_ref()
        .and_then(|registry| registry.get(&TypeId::of::<M>()));
    care.and_then(|care| care.downcast_ref::<Care<M>>())
        .copied()
        .unwrap_or_else(Care::foreign)
}

/// A foreign manager's error. r2d2 does not ask for `Send`, and ours must cross
/// threads, so what it prints is kept: message and chain of causes.
#[derive(Debug)]
pub(super) struct Captured {
    message: String,
    cause: Option<Box<Captured>>,
}

impl Captured {
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        Self {
            message: error.to_string(),
            cause: error.source().map(|cause| Box::new(Self::of(cause))),
        }
    }
}

impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Captured {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}
