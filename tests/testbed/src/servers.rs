//! One server of each kind for examples and benches.
//!
//! Examples use the servers that the environment names; benches start all of them, as
//! they send traffic to loopback addresses only.

use std::env;
use std::thread;

use crate::error::Error;
use crate::mongo::Mongo;
use crate::nginx::Nginx;
use crate::postgres::Postgres;
use crate::redis::Redis;

/// One server of each kind: named by the environment, or started.
///
/// | server | taken from |
/// |---|---|
/// | PostgreSQL | `DATABASE_URL`, or `DB_HOST` with `DB_PORT`, `DB_NAME`, `DB_USER`, `DB_PASSWORD` |
/// | Redis | `REDIS_URL`, or `REDIS_HOST` with `REDIS_PORT`, `REDIS_PASSWORD`, `REDIS_DB` |
/// | MongoDB | `MONGODB_URI`, or `MONGODB_HOST` with `MONGODB_PORT`, `MONGODB_USER`, `MONGODB_PASSWORD` |
/// | HTTP | `HTTP_BASE_URL` |
///
/// Passwords go into the URLs as they are, so they must be fit for one.
pub struct Servers {
    /// Of PostgreSQL.
    pub postgres_url: String,
    /// Of Redis.
    pub redis_url: String,
    /// Of MongoDB.
    pub mongodb_uri: String,
    /// Of the HTTP server, without a slash at the end.
    pub http_url: String,
    /// The server, if it was started here.
    pub postgres: Option<Postgres>,
    /// The server, if it was started here.
    pub redis: Option<Redis>,
    /// The server, if it was started here.
    pub mongo: Option<Mongo>,
    /// The server, if it was started here.
    pub nginx: Option<Nginx>,
}

impl Servers {
    /// Starts what the environment does not name, all at a time.
    pub fn start() -> Result<Self, Error> {
        Self::found_or_started(variable)
    }

    /// Starts all of them, whatever the environment says.
    pub fn throw_away() -> Result<Self, Error> {
        Self::found_or_started(|_| None)
    }

    fn found_or_started(variable: Variable) -> Result<Self, Error> {
        let ((postgres_url, postgres), (redis_url, redis), (mongodb_uri, mongo), (http_url, nginx)) =
            thread::scope(|scope| {
                let postgres = scope
                    .spawn(|| named_or(named_postgres(variable), Postgres::start, Postgres::url));
                let redis =
                    scope.spawn(|| named_or(named_redis(variable), Redis::start, Redis::url));
                let mongo =
                    scope.spawn(|| named_or(named_mongo(variable), Mongo::start, Mongo::uri));
                let nginx = named_or(variable("HTTP_BASE_URL"), Nginx::start, Nginx::url);
                Ok::<_, Error>((joined(postgres)?, joined(redis)?, joined(mongo)?, nginx?))
            })?;
        Ok(Self {
            postgres_url,
            redis_url,
            mongodb_uri,
            http_url: http_url.trim_end_matches('/').to_owned(),
            postgres,
            redis,
            mongo,
            nginx,
        })
    }
}

/// Looks a variable of the environment up.
type Variable = fn(&str) -> Option<String>;

type Found<T> = Result<(String, Option<T>), Error>;

fn named_or<T>(
    named: Option<String>,
    start: impl FnOnce() -> Result<T, Error>,
    url: impl FnOnce(&T) -> String,
) -> Found<T> {
    if let Some(named) = named {
        return Ok((named, None));
    }
    let server = start()?;
    Ok((url(&server), Some(server)))
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Found<T>>) -> Found<T> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn named_postgres(variable: Variable) -> Option<String> {
    variable("DATABASE_URL").or_else(|| {
        let host = variable("DB_HOST")?;
        let login = login(variable("DB_USER"), variable("DB_PASSWORD"));
        let port = variable("DB_PORT").unwrap_or_else(|| "5432".into());
        let name = variable("DB_NAME").unwrap_or_else(|| "postgres".into());
        Some(format!("postgres://{login}{host}:{port}/{name}"))
    })
}

fn named_redis(variable: Variable) -> Option<String> {
    variable("REDIS_URL").or_else(|| {
        let host = variable("REDIS_HOST")?;
        let login = login(None, variable("REDIS_PASSWORD"));
        let port = variable("REDIS_PORT").unwrap_or_else(|| "6379".into());
        let database = variable("REDIS_DB").unwrap_or_default();
        Some(format!("redis://{login}{host}:{port}/{database}"))
    })
}

fn named_mongo(variable: Variable) -> Option<String> {
    variable("MONGODB_URI").or_else(|| {
        let host = variable("MONGODB_HOST")?;
        let login = login(variable("MONGODB_USER"), variable("MONGODB_PASSWORD"));
        let port = variable("MONGODB_PORT").unwrap_or_else(|| "27017".into());
        Some(format!("mongodb://{login}{host}:{port}/"))
    })
}

/// `user:password@`, as far as given.
fn login(user: Option<String>, password: Option<String>) -> String {
    match (user, password) {
        (None, None) => String::new(),
        (user, None) => format!("{}@", user.unwrap_or_default()),
        (user, Some(password)) => format!("{}:{password}@", user.unwrap_or_default()),
    }
}

/// A variable of the environment that is not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
