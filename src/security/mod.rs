//! Secrets, values, and TLS: what is hidden, from whom, and what is not promised.
//!
//! # Secrets
//!
//! Passwords, tokens, keys, and header values in settings are [`Secret`]s: printed as `***`,
//! wiped when dropped, and handed to the drivers alone. A password in a URL is taken out of it.
//! They never appear in `Debug`, errors, logs, figures, health, or what the exporter serves,
//! whatever is switched on or off.
//!
//! A secret in a configuration may be *sealed*: encrypted with a key that is kept elsewhere.
//!
//! ```
//! # fn main() -> Result<(), millpond::Error> {
//! use millpond::{Config, SealingKey, Secret};
//!
//! let key = SealingKey::generate();
//! let sealed = key.seal(&Secret::from("hunter2"));
//! let config = Config::new()
//!     .set("SECURITY_ENCRYPTION_KEY", key.to_text())
//!     .set("DATABASE_URL", format!("postgres://app:{sealed}@localhost/shop"))
//!     .set("REDIS_URL", "redis://localhost")
//!     .set("REDIS_PASSWORD", key.seal(&Secret::from("12345")));
//! config.validate()?;
//! # Ok(()) }
//! ```
//!
//! Sealed values are accepted for every secret variable, in the environment, in TOML, in the
//! first line of the file that a `NAME_FILE` names; as the password in a URL, as it is or
//! percent-encoded, or for the whole URL; and for each value in `HTTP_HEADERS`. They are not
//! accepted in the arguments of builders, such as `PostgresConfig::password`: open them with
//! [`SealingKey::open`]. The key is `SECURITY_ENCRYPTION_KEY`, or the first line of the file that
//! `SECURITY_ENCRYPTION_KEY_FILE` names, and is never sealed itself.
//!
//! Passwords that Millpond writes, which [`Config::settings`](crate::Config::settings) does, are
//! written sealed if there is a key, and as `***` if there is none or
//! `SECURITY_ENCRYPT_PASSWORDS=false`.
//!
//! # Values
//!
//! What operations carry and servers answer is masked too, unless
//! `SECURITY_MASK_SENSITIVE_DATA=false` or [`mask_values`]`(false)`:
//!
//! - An [`Error`](crate::Error)'s message leaves out what a server repeats of rows, documents,
//!   arguments and bodies. Any text of 4 letters or more that the operation carries is taken out
//!   of it wherever it stands.
//! - [`Error::source`](std::error::Error::source) is a stand-in that names the driver's error and
//!   prints nothing of it, because programs print whole chains of causes. The driver's own error
//!   is had by [`Error::driver_error`](crate::Error::driver_error), and what it prints is its
//!   own affair. Causes without values (I/O, TLS, HTTP's statuses, PostgreSQL's refusals of a
//!   login) stay as they are, so that `source().downcast_ref()` finds them at once.
//! - `Debug` of operations, replies and outcomes shows their form alone.
//! - Statements in logs are without literals, whether this is on or off.
//!
//! With masking off these show values, and still no header, field or URL parameter whose name
//! sounds like a secret's, no body of an HTTP request, no SQL text about passwords, and no
//! argument of Redis's `AUTH`, `HELLO`, `CONFIG`, `ACL` and `MIGRATE`.
//!
//! # Not promised
//!
//! - Drivers copy passwords into memory of their own that nobody wipes, the environment keeps
//!   what was set in it, and neither is kept from swap or core dumps.
//! - Errors, replies and logs of a driver's own calls on a lease are the driver's. They do not
//!   pass through Millpond. See [`logging`](crate::logging) for what drivers log.
//! - What the author of a database's function or trigger puts into `RAISE`, beyond the values of
//!   the operation that caused it; and values that are part of an operation's *names*, such as a
//!   table's or a path's.
//! - With masking off, what a service repeats of its own login in a body that is shown.
//! - Managers that are not Millpond's print their errors as they are.
//! - The quarantine's lines hold the operations whole: they are data.
//! - Sealing protects a file that is read by somebody without the key, and nothing else.
//!
//! # TLS
//!
//! Every TLS configuration of this crate comes from `Tls` and uses one crypto provider
//! (ring), handed over explicitly, so that no process-wide default is needed.
//!
//! # Files that change
//!
//! What logs in or encrypts can be renewed while the program runs, by replacing its file:
//!
//! - A password, token or key from a file (`NAME_FILE`, the `*_file` methods of builders) is read
//!   again for each login; so is the password in the URL that the file of `DATABASE_URL_FILE`,
//!   `REDIS_URL_FILE` or `MONGODB_URI_FILE` has. The rest of such a URL (user, host, database)
//!   is read once.
//! - The files of certificates, keys and authorities are read again for each new connection, and
//!   for the watch of their expiry at each check. The system's authorities are read once.
//!
//! Connections that exist stay as they are. A file that is missing, torn or of no use harms
//! nothing: what it said last is used. While the server refuses what the files say, the pool looks
//! at them four times a second, and connects at once when they say something else.

#[cfg(feature = "_net")]
mod certificates;
#[cfg(feature = "_net")]
mod credential;
#[cfg(feature = "_net")]
mod diagnosis;
mod mask;
#[cfg(feature = "_net")]
mod pem;
#[cfg(feature = "_net")]
mod renewed;
#[cfg(feature = "_net")]
mod seal;
#[cfg(any(feature = "_net", feature = "exporter", feature = "audit"))]
mod secret;
#[cfg(feature = "_net")]
mod tls;
#[cfg(feature = "_net")]
mod verifier;

#[cfg(feature = "_net")]
pub(crate) use certificates::Watch;
#[cfg(feature = "_net")]
pub(crate) use credential::Credential;
#[cfg(any(feature = "postgres", feature = "redis", feature = "mongodb"))]
pub(crate) use credential::Part;
#[cfg(any(feature = "redis", feature = "mongodb"))]
pub(crate) use credential::same;
#[cfg(feature = "_net")]
pub(crate) use diagnosis::{TlsSettings, warn_unchecked};
#[cfg(any(feature = "http", feature = "mongodb"))]
pub(crate) use mask::is_secret_name;
#[cfg(any(feature = "postgres", feature = "mongodb"))]
pub(crate) use mask::unquoted;
pub(crate) use mask::without;
pub use mask::{mask_values, values_are_masked};
#[cfg(feature = "redis")]
pub(crate) use pem::Files;
#[cfg(feature = "_net")]
pub(crate) use renewed::Renewed;
#[cfg(feature = "_net")]
pub use seal::SealingKey;
#[cfg(feature = "_net")]
pub(crate) use seal::{FORM, SEALED};
#[cfg(any(feature = "_net", feature = "exporter", feature = "audit"))]
pub use secret::Secret;
#[cfg(feature = "_net")]
pub(crate) use secret::read_regular;
#[cfg(any(feature = "_net", feature = "exporter", feature = "audit"))]
pub(crate) use secret::read_secret;
#[cfg(feature = "_net")]
pub(crate) use tls::TLS_VERSIONS;
#[cfg(feature = "_net")]
pub use tls::{Tls, TlsVersion};
