//! The driver's one client, and what it was made with: another takes its place when that changes.

use std::sync::Arc;

use mongodb::Client;
use mongodb::event::EventHandler;
use mongodb::options::TlsOptions;
use parking_lot::Mutex;

use super::config::MongoDbConfig;
use super::scout::Scout;
use super::sockets::Counters;
use super::topology::Topology;
use super::{driver, errors, runtime};
use crate::error::{Error, ErrorKind, Phase};
use crate::security::{Credential, Renewed, Secret, Watch, same};

/// The client of one manager.
pub(super) struct DriverClient {
    /// `None` for plaintext.
    tls: Option<Renewed<Arc<TlsOptions>>>,
    /// Made by the first connect. The lock is held while it is made, which takes no
    /// network traffic: a second client would double the monitoring sockets.
    made: Mutex<Option<Made>>,
    /// Of the client; an old one closes its servers when it ends.
    known: Mutex<Arc<Known>>,
}

/// What is known of the servers of a client.
pub(super) struct Known {
    /// By its monitors.
    pub(super) topology: Topology,
    pub(super) scout: Scout,
}

impl Known {
    fn nothing() -> Arc<Self> {
        Arc::new(Self {
            topology: Topology::new(),
            scout: Scout::default(),
        })
    }
}

struct Made {
    password: Option<Secret>,
    tls: Option<Arc<TlsOptions>>,
    client: Client,
}

impl DriverClient {
    /// Reads and checks the TLS files; the watch learns when the certificates in them expire.
    pub(super) fn new(config: &MongoDbConfig, certificates: &Arc<Watch>) -> Result<Self, Error> {
        Ok(Self {
            tls: driver::tls(config, certificates)?,
            made: Mutex::new(None),
            known: Mutex::new(Known::nothing()),
        })
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// What is known of its servers.
    pub(super) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.lock())
    }

    /// Lets the watch learn of TLS files that have changed.
    pub(super) fn look(&self) {
        if let Some(tls) = &self.tls {
            tls.look();
        }
    }

    /// Whether the next attempt to connect would be made with something else than the last one;
    /// `None` if that cannot be.
    pub(super) fn has_changed(&self, config: &MongoDbConfig) -> Option<bool> {
        let password = config.password.as_ref().and_then(Credential::has_changed);
        password.max(self.tls.as_ref().and_then(Renewed::has_changed))
    }

    /// The client for an attempt to connect, made now if this is the first use, or the password
    /// or the TLS files have changed.
    pub(super) fn get(
        &self,
        config: &MongoDbConfig,
        counters: &Arc<Counters>,
    ) -> Result<Client, Error> {
        let password = config.password.as_ref();
        let password = password.map(Credential::current).transpose()?;
        let tls = self.tls.as_ref().map(Renewed::attempt);
        let mut slot = self.made.lock();
        if let Some(made) = &*slot
            && same(made.password.as_ref(), password.as_ref())
            && made.tls.as_ref().map(Arc::as_ptr) == tls.as_ref().map(Arc::as_ptr)
        {
            return Ok(made.client.clone());
        }
        let mut options = driver::options(config, password.as_ref(), tls.as_deref())?;
        let counters = Arc::clone(counters);
        options.cmap_event_handler =
            Some(EventHandler::callback(move |event| counters.note(event)));
        let known = Known::nothing();
        let noted = Arc::clone(&known);
        let note = move |event| noted.topology.note(event);
        options.sdam_event_handler = Some(EventHandler::callback(note));
        let _runtime = runtime::enter()?;
        let client = match (Client::with_options(options), &*slot) {
            (Ok(client), _) => client,
            // The files have changed again since they were checked, and the driver reads them by
            // itself: the next connect finds out.
            (Err(_), Some(made)) if same(made.password.as_ref(), password.as_ref()) => {
                return Ok(made.client.clone());
            }
            (Err(error), _) => {
                let (kind, phase) = (ErrorKind::Configuration, Phase::Connect);
                let message = errors::describe(&error);
                return Err(Error::new(kind, phase, message).with_driver_error(error));
            }
        };
        *self.known.lock() = known;
        let old = slot.replace(Made {
            password,
            tls,
            client: client.clone(),
        });
        drop(slot);
        // It ends with the last lease that has it, or here.
        drop(old);
        Ok(client)
    }
}
