//! The words of a setting that are not free: how to encrypt, which host is wanted, where it is.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::is_host;

/// Whether and how the connection is encrypted, in libpq's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SslMode {
    /// Never.
    Disable,
    /// If the server can, without a check of its certificate; to another host than
    /// this one it means [`Require`](Self::Require), unless plaintext is allowed.
    #[default]
    Prefer,
    /// Always. As with libpq, the certificate is checked only if a CA file is given.
    Require,
    /// Always, with a certificate of a trusted authority.
    VerifyCa,
    /// Always, with a certificate of a trusted authority for just this host.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "disable" => Ok(Self::Disable),
            // libpq's `allow` begins in plaintext; encrypting first is the safer reading.
            "allow" | "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(()),
        }
    }
}

pub(super) const SSL_MODES: &str = "disable, prefer, require, verify-ca or verify-full";

/// Which of several hosts is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TargetSession {
    /// The first that answers.
    #[default]
    Any,
    /// The first that takes writes.
    ReadWrite,
    /// The first that is read-only.
    ReadOnly,
}

impl FromStr for TargetSession {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "any" => Ok(Self::Any),
            "read-write" | "primary" => Ok(Self::ReadWrite),
            "read-only" | "standby" => Ok(Self::ReadOnly),
            _ => Err(()),
        }
    }
}

pub(super) const TARGET_SESSIONS: &str = "any, read-write or read-only";

/// Where one server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Host {
    Tcp(String),
    /// The folder of the server's Unix socket.
    Unix(PathBuf),
}

impl Host {
    pub(in super::super) fn of(text: &str) -> Self {
        if text.starts_with('/') {
            Self::Unix(text.into())
        } else {
            Self::Tcp(text.to_owned())
        }
    }

    /// The same, unless it can be none.
    pub(in super::super) fn checked(text: &str) -> Option<Self> {
        let host = Self::of(text);
        match &host {
            Self::Tcp(name) => is_host(name).then_some(host),
            Self::Unix(_) => Some(host),
        }
    }

    /// Whether what is sent stays on this machine.
    pub(in super::super) fn is_here(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(name) => {
                name.eq_ignore_ascii_case("localhost")
                    || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}
