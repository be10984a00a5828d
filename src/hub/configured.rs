//! A hub from a configuration: its pools are opened, and found by name.

#[cfg(feature = "audit")]
use crate::audit::AuditBuilder;
use crate::backend::Backend;
#[cfg(feature = "batch")]
use crate::batch::{BatchBuilder, Lender};
use crate::config::{Config, Opening, Plan, on_backend, refusal};
use crate::endpoints::Fleet;
use crate::error::{Error, ErrorKind, Phase};
use crate::pool::Pool;
use crate::resources::{self, Limits};

use super::{Hub, HubBuilder};

impl Hub {
    /// Opens the pools that the environment names, and those of the file that `MILLPOND_CONFIG`
    /// names; see [`from_config`](Self::from_config).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), millpond::Error> {
    /// use millpond::{Hub, Redis};
    ///
    /// // With REDIS_URL=redis://localhost
    /// let hub = Hub::from_env()?;
    /// let cache = hub.pool::<Redis>("redis")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), with all mistakes at once.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_config(&Config::from_env()?)
    }

    /// Opens the pools and fleets that a configuration names, and watches them. Pools without a name of
    /// their own are called `postgres`, `redis`, `mongodb` and `http`.
    ///
    /// Connections are opened in the background: a server that is down keeps no program from
    /// starting, and shows in [`health`](Self::health). Limits of memory and processor time, and
    /// switches of the log, are set for the process. The audit log, if one is configured, is
    /// installed, and is closed with the last handle of the hub.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), with all [mistakes](Config::mistakes) at once;
    /// or if the audit log cannot be opened.
    pub fn from_config(config: &Config) -> Result<Self, Error> {
        Self::builder().open(config)
    }

    /// The pool of this name, which is one of this backend.
    ///
    /// ```
    /// # fn main() -> Result<(), millpond::Error> {
    /// # #[cfg(feature = "redis")] {
    /// use millpond::{Config, Hub, Redis};
    ///
    /// let config = Config::new().pool("cache", "redis").set_for("cache", "REDIS_HOST", "localhost");
    /// let hub = Hub::from_config(&config)?;
    /// assert_eq!(hub.pool::<Redis>("cache")?.name(), "cache");
    /// # } Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if there is none of this name, naming those
    /// that there are, if it is a [`fleet`](Self::fleet), or if it is one of another backend.
    pub fn pool<B: Backend>(&self, name: &str) -> Result<Pool<B>, Error> {
        let pools = self.0.pools.read();
        if let Some(found) = pools.iter().find(|pool| pool.name() == name) {
            let pool = found.as_any().downcast_ref::<Pool<B>>().cloned();
            return pool.ok_or_else(|| match found.fleet() {
                Some(fleet) => wrong(format!(
                    "`{name}` is an endpoint of the fleet `{fleet}`: ask for that by `Hub::fleet`"
                )),
                None => wrong(format!("the pool `{name}` is none of {}", B::NAME)),
            });
        }
        drop(pools);
        if self
            .0
            .fleets
            .read()
            .iter()
            .any(|fleet| fleet.name() == name)
        {
            return Err(wrong(format!(
                "`{name}` is a fleet, since POOL_BALANCE is set: ask for it by `Hub::fleet`"
            )));
        }
        Err(self.unknown(name))
    }

    /// The fleet of this name: what a pool of the configuration is that has a `POOL_BALANCE`, with
    /// an endpoint for each of its servers; see [`endpoints`](crate::endpoints#from-a-configuration).
    ///
    /// ```
    /// # fn main() -> Result<(), millpond::Error> {
    /// # #[cfg(feature = "redis")] {
    /// use millpond::{Config, Hub, Redis};
    ///
    /// let config = Config::new()
    ///     .pool("cache", "redis")
    ///     .set_for("cache", "REDIS_HOST", "127.0.0.1:6379,127.0.0.1:6380")
    ///     .set_for("cache", "POOL_BALANCE", "peak-ewma");
    /// let hub = Hub::from_config(&config)?;
    /// assert_eq!(hub.fleet::<Redis>("cache")?.endpoints().len(), 2);
    /// # } Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if there is none of this name, naming those
    /// that there are, if it is a single [`pool`](Self::pool), or if it is one of another backend.
    pub fn fleet<B: Backend>(&self, name: &str) -> Result<Fleet<B>, Error> {
        let fleets = self.0.fleets.read();
        if let Some(found) = fleets.iter().find(|fleet| fleet.name() == name) {
            let fleet = found.as_any().downcast_ref::<Fleet<B>>().cloned();
            return fleet
                .ok_or_else(|| wrong(format!("the fleet `{name}` is none of {}", B::NAME)));
        }
        drop(fleets);
        if self.0.pools.read().iter().any(|pool| pool.name() == name) {
            return Err(wrong(format!(
                "`{name}` is a single pool: ask for it by `Hub::pool`, or set POOL_BALANCE for it"
            )));
        }
        Err(self.unknown(name))
    }

    fn unknown(&self, name: &str) -> Error {
        let (pools, fleets) = (self.0.pools.read().clone(), self.0.fleets.read().clone());
        let single = pools.iter().filter(|pool| pool.fleet().is_none());
        let single = single.map(|pool| pool.name());
        let names: Vec<_> = single
            .chain(fleets.iter().map(|fleet| fleet.name()))
            .collect();
        let names = if names.is_empty() {
            "none: set DATABASE_URL, REDIS_URL, ... or [pools.NAME]".to_owned()
        } else {
            names.join(", ")
        };
        wrong(format!("there is no pool `{name}`; there are {names}"))
    }

    /// Sets up a batch over the pool of this name, with the settings that the configuration has
    /// for it.
    ///
    /// # Errors
    /// As for [`pool`](Self::pool). Over a fleet, say by [`batch_over`](Self::batch_over) to which of
    /// its servers the operations may go.
    #[cfg(feature = "batch")]
    pub fn batch<B: Backend>(&self, name: &str) -> Result<BatchBuilder<B>, Error> {
        self.batch_over(name, self.pool(name)?)
    }

    /// Sets up a batch over what you give, with the settings that the configuration has for the
    /// pool or fleet of this name: over a fleet, or the part of it that takes writes.
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # fn main() -> Result<(), millpond::Error> {
    /// use millpond::{Hub, Postgres, Sql};
    ///
    /// // With DB_HOST=db1,db2 and POOL_BALANCE=peak-ewma
    /// let hub = Hub::from_env()?;
    /// let fleet = hub.fleet::<Postgres>("postgres")?;
    /// let batch = hub.batch_over("postgres", fleet.write())?.build()?;
    /// batch.submit(Sql::new("INSERT INTO visits (page) VALUES ($1)").bind("/"))?;
    /// # Ok(()) }
    /// # #[cfg(not(feature = "postgres"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if one of the settings is wrong.
    #[cfg(feature = "batch")]
    pub fn batch_over<B: Backend>(
        &self,
        name: &str,
        lender: impl Into<Lender<B>>,
    ) -> Result<BatchBuilder<B>, Error> {
        let config = &self.0.settings.config;
        let is_named = config.has_pool(name);
        let vars = if is_named {
            config.vars_of(name)
        } else {
            config.vars()
        };
        BatchBuilder::from_vars(lender.into(), vars)
    }
}

impl HubBuilder {
    /// The hub, with the pools of this configuration; see [`Hub::from_config`].
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), with all mistakes at once.
    pub fn open(mut self, config: &Config) -> Result<Hub, Error> {
        let plan = Plan::of(config).map_err(|mistakes| refusal(&mistakes))?;
        for warning in config.warnings() {
            log::warn!("millpond: {warning}");
        }
        self.settings.config = config.clone();
        #[cfg(feature = "audit")]
        {
            self.settings.audit = plan.audit.map(AuditBuilder::install).transpose()?;
        }
        let hub = self.build();
        plan.switches.apply();
        if let Some(on) = plan.mask {
            crate::security::mask_values(on);
        }
        if plan.limits != Limits::default() {
            resources::set_limits(plan.limits);
        }
        for pool in plan.pools {
            on_backend!(pool, |opening| hub.take_up(opening)?);
        }
        Ok(hub)
    }
}

impl Hub {
    fn take_up<B: Backend>(&self, opening: Opening<B>) -> Result<(), Error> {
        match opening {
            Opening::Pool(builder, manager) => self.watch(&builder.build_unchecked(manager)),
            Opening::Fleet(plan) => self.watch_fleet(&plan.open().build_unchecked()?),
        }
        Ok(())
    }
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Configuration, Phase::Configure, message)
}
