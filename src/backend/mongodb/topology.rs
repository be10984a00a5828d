//! What the driver's monitors know of the servers, so that an attempt to connect
//! can fail at once and say why.
//!
//! The driver itself waits out its whole server selection timeout and then reports
//! a text. Its heartbeat events carry the real error (refused, name not found, bad
//! certificate) as it happens: an [`Attempt`] is doomed as soon as every known
//! server has failed since it began.

use std::collections::HashMap;

use mongodb::ServerType;
use mongodb::error::Error as DriverError;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::ServerAddress;
use tokio::sync::watch;

use super::errors::is_connect_failure;

/// The servers, as the monitors saw them last.
#[derive(Debug)]
pub(super) struct Topology {
    known: watch::Sender<Known>,
}

#[derive(Debug, Default)]
struct Known {
    servers: HashMap<ServerAddress, Server>,
    /// Whether there ever was a server: none before is a beginning, none after an end.
    opened: bool,
}

#[derive(Clone, Debug, Default)]
struct Server {
    role: ServerType,
    failures: u64,
    last_failure: Option<DriverError>,
}

/// Why no server can be had.
pub(super) enum Doom {
    /// Every server failed; the error of one of them.
    Failed(DriverError),
    /// The driver dropped every host it was given, as not belonging to the set.
    NoMember,
}

impl Topology {
    pub(super) fn new() -> Self {
        Self {
            known: watch::Sender::new(Known::default()),
        }
    }

    pub(super) fn note(&self, event: SdamEvent) {
        match event {
            SdamEvent::ServerOpening(event) => {
                self.change(event.address, |_| {});
            }
            SdamEvent::ServerClosed(event) => {
                self.known.send_modify(|known| {
                    known.servers.remove(&event.address);
                });
            }
            SdamEvent::ServerDescriptionChanged(event) => {
                let role = event.new_description.server_type();
                self.change(event.address, |server| server.role = role);
            }
            SdamEvent::ServerHeartbeatSucceeded(event) => {
                self.change(event.server_address, |server| server.last_failure = None);
            }
            SdamEvent::ServerHeartbeatFailed(event) => {
                self.change(event.server_address, |server| {
                    server.failures += 1;
                    server.last_failure = Some(event.failure);
                });
            }
            _ => {}
        }
    }

    fn change(&self, address: ServerAddress, change: impl FnOnce(&mut Server)) {
        self.known.send_modify(|known| {
            known.opened = true;
            change(known.servers.entry(address).or_default());
        });
    }

    /// Begins an attempt: only failures from now on count against it.
    pub(super) fn attempt(&self) -> Attempt<'_> {
        let failures_before = self
            .known
            .borrow()
            .servers
            .iter()
            .map(|(address, server)| (address.clone(), server.failures))
            .collect();
        Attempt {
            topology: self,
            failures_before,
        }
    }

    /// The last failure of any server that is failing now.
    pub(super) fn last_failure(&self) -> Option<DriverError> {
        let known = self.known.borrow();
        known
            .servers
            .values()
            .find_map(|server| server.last_failure.clone())
    }

    /// Whether the servers answer, but none of them takes writes.
    pub(super) fn has_no_primary(&self) -> bool {
        let known = self.known.borrow();
        let answers = |server: &Server| server.role != ServerType::Unknown;
        known.servers.values().any(answers)
            && !known.servers.values().any(|server| {
                matches!(
                    server.role,
                    ServerType::RsPrimary
                        | ServerType::Standalone
                        | ServerType::Mongos
                        | ServerType::LoadBalancer
                )
            })
    }

    /// The addresses of all known servers, discovered ones included.
    pub(super) fn addresses(&self) -> Vec<ServerAddress> {
        self.known.borrow().servers.keys().cloned().collect()
    }
}

/// One attempt to reach a server.
pub(super) struct Attempt<'a> {
    topology: &'a Topology,
    failures_before: HashMap<ServerAddress, u64>,
}

impl Attempt<'_> {
    /// Waits until it is certain that no server can be reached for now.
    pub(super) async fn doomed(self) -> Doom {
        let mut changes = self.topology.known.subscribe();
        loop {
            if let Some(doom) = self.verdict(&changes.borrow_and_update()) {
                return doom;
            }
            if changes.changed().await.is_err() {
                // The sender lives in the topology that is borrowed here.
                return std::future::pending().await;
            }
        }
    }

    fn verdict(&self, known: &Known) -> Option<Doom> {
        if known.servers.is_empty() {
            return known.opened.then_some(Doom::NoMember);
        }
        let mut reason = None;
        for (address, server) in &known.servers {
            let failure = server.last_failure.as_ref()?;
            let before = self.failures_before.get(address).copied().unwrap_or(0);
            // A monitor whose socket was cut tries again at once, so its first
            // failure says nothing, unless a new socket could not be made either.
            let needed = if is_connect_failure(failure) { 1 } else { 2 };
            if server.failures - before < needed {
                return None;
            }
            reason = Some(failure);
        }
        reason.cloned().map(Doom::Failed)
    }
}
