//! What a failed handshake means, in words of the operator, for all backends in one place.
//!
//! Each backend finds rustls' error in what its driver reports and has it explained here,
//! with the names of its own settings. A handshake that fails because of the server is
//! [`Connect(Tls)`](crate::ConnectFailure::Tls); one that the server breaks off because of the
//! client's certificate is [`Authentication`](ErrorKind::Authentication). Neither heals by
//! itself.

use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription as Alert, CertificateError, PeerIncompatible};

use crate::error::{ConnectFailure, ErrorKind};
use crate::metrics::moment;

/// The settings of one backend, as messages name them.
#[derive(Debug)]
pub(crate) struct TlsSettings {
    /// Names the file of the authorities.
    pub(crate) ca_file: &'static str,
    /// Name the client's certificate and key.
    pub(crate) client: &'static str,
    /// Name the server.
    pub(crate) address: &'static str,
    /// Names the host whose name is checked, and perhaps what spares it the check.
    pub(crate) host: &'static str,
    /// Names the oldest version.
    pub(crate) min_version: &'static str,
    /// Says that there is to be no TLS.
    pub(crate) plaintext: &'static str,
}

const TLS: ErrorKind = ErrorKind::Connect(ConnectFailure::Tls);

impl TlsSettings {
    /// The kind of this error, and what it means and what to do.
    pub(crate) fn explain(&self, error: &rustls::Error) -> (ErrorKind, String) {
        use rustls::Error as Tls;
        match error {
            Tls::InvalidCertificate(problem) => (TLS, self.certificate(problem)),
            Tls::AlertReceived(alert) => self.alert(*alert),
            Tls::PeerIncompatible(
                PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => (TLS, self.too_old()),
            Tls::InvalidMessage(_) => (TLS, self.no_tls("its answer is plaintext")),
            other => (TLS, format!("the TLS handshake failed: {other}")),
        }
    }

    /// The server does not speak TLS, as is seen by this.
    pub(crate) fn no_tls(&self, seen: &str) -> String {
        format!(
            "the server does not offer TLS ({seen}), and no login was sent; switch \
             TLS on there, check {}, or do without ({})",
            self.address, self.plaintext
        )
    }

    /// The server closed the connection on the handshake, without a word.
    #[cfg(feature = "mongodb")]
    pub(crate) fn hung_up(&self) -> String {
        format!(
            "the server hung up on the TLS handshake: it offers no TLS, or no version that is \
             new enough (1.2 at least; see {}), and no login was sent; switch TLS on \
             there, check {}, or do without ({})",
            self.min_version, self.address, self.plaintext
        )
    }

    /// The server closed the connection right after the handshake, without a word.
    #[cfg(feature = "mongodb")]
    pub(crate) fn hung_up_later(&self) -> String {
        format!(
            "the server hung up right after the TLS handshake: it seems to want a client \
             certificate of an authority that it knows; give one by {}",
            self.client
        )
    }

    fn certificate(&self, problem: &CertificateError) -> String {
        use CertificateError as Problem;
        let host = self.host;
        match problem {
            Problem::ExpiredContext { not_after, .. } => format!(
                "the server's certificate expired on {}; renew it there (today is {})",
                date(*not_after),
                moment::date(SystemTime::now())
            ),
            Problem::Expired => {
                "the server's certificate has expired; renew it there, or set the clock here".into()
            }
            Problem::NotValidYetContext { not_before, .. } => format!(
                "the server's certificate is not valid before {}; check the clocks of both \
                 machines (here it is {})",
                date(*not_before),
                moment::date(SystemTime::now())
            ),
            Problem::NotValidYet => {
                "the server's certificate is not valid yet; check the clocks of both machines"
                    .into()
            }
            Problem::NotValidForNameContext {
                expected,
                presented,
            } => format!(
                "the server's certificate is for {}, not {}; check {host}",
                names(presented),
                expected.to_str()
            ),
            Problem::NotValidForName => {
                format!("the server's certificate is for another host; check {host}")
            }
            Problem::UnknownIssuer => format!(
                "the authority of the server's certificate is not known; give its file by {}",
                self.ca_file
            ),
            Problem::BadSignature => format!(
                "the server's certificate is not signed by the authority that it names; check \
                 {}",
                self.ca_file
            ),
            Problem::InvalidPurpose | Problem::InvalidPurposeContext { .. } => {
                "the server's certificate is not one for servers".into()
            }
            Problem::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "the server shows the certificate of an authority (made by itself, it seems); \
                 give the server one that an authority has signed"
                    .into()
            }
            other => format!("the server's certificate is refused: {other}"),
        }
    }

    fn alert(&self, alert: Alert) -> (ErrorKind, String) {
        let client = self.client;
        match alert {
            Alert::CertificateRequired | Alert::NoCertificate => (
                ErrorKind::Authentication,
                format!("the server wants a client certificate; give it by {client}"),
            ),
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError => (
                ErrorKind::Authentication,
                format!(
                    "the server does not accept the client's certificate ({alert:?}); check \
                     {client}"
                ),
            ),
            Alert::ProtocolVersion => (TLS, self.too_old()),
            Alert::HandshakeFailure => (
                TLS,
                format!(
                    "the server broke the handshake off: it has no version or cipher in common \
                     with TLS 1.2 and 1.3, or wants a client certificate ({client})"
                ),
            ),
            other => (
                TLS,
                format!("the server broke the handshake off: {other:?}"),
            ),
        }
    }

    fn too_old(&self) -> String {
        format!(
            "the server offers no version of TLS that is new enough; allow a newer one there, \
             1.2 at least (and see {} here)",
            self.min_version
        )
    }
}

fn date(moment: UnixTime) -> String {
    let since = Duration::from_secs(moment.as_secs());
    moment::date(SystemTime::UNIX_EPOCH + since)
}

/// Names as rustls has them (`DnsName("a")`, `IpAddress(::1)`), as people write them.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no host at all".to_owned();
    }
    let bare = |name: &String| match name.split_once('(') {
        Some((_, inside)) => inside.trim_end_matches(')').trim_matches('"').to_owned(),
        None => name.clone(),
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}

/// Says at a manager's start that certificates are not checked.
pub(crate) fn warn_unchecked(backend: &str) {
    log::warn!(
        "millpond: {backend}: certificate validation is off \
         (SECURITY_CERTIFICATE_VALIDATION=false, or by code): an attacker in between is not \
         noticed"
    );
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{CertificateError, Error};

    use super::*;

    const DB: TlsSettings = TlsSettings {
        ca_file: "DB_SSL_CA_FILE",
        client: "DB_SSL_CERT_FILE and DB_SSL_KEY_FILE",
        address: "DB_HOST and DB_PORT",
        host: "DB_HOST",
        min_version: "DB_SSL_MIN_VERSION",
        plaintext: "DB_SSL_MODE=disable",
    };

    #[test]
    fn the_names_of_a_certificate_are_told() {
        let error = Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("localhost").expect("a name"),
            presented: vec!["DnsName(\"a.invalid\")".into(), "IpAddress(::1)".into()],
        });
        assert_eq!(
            DB.explain(&error),
            (
                TLS,
                "the server's certificate is for a.invalid, ::1, not localhost; check DB_HOST"
                    .into()
            )
        );
    }

    #[test]
    fn dates_are_told() {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000));
        let not_after = UnixTime::since_unix_epoch(Duration::from_secs(951_782_400));
        let error = Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after });
        let (kind, text) = DB.explain(&error);
        assert_eq!(kind, TLS);
        assert!(text.contains("expired on 2000-02-29"), "{text}");
    }

    #[test]
    fn what_the_server_finds_wrong_with_the_client_is_a_failed_login() {
        for (alert, kind, word) in [
            (
                Alert::CertificateRequired,
                ErrorKind::Authentication,
                "DB_SSL_CERT_FILE",
            ),
            (
                Alert::UnknownCA,
                ErrorKind::Authentication,
                "DB_SSL_CERT_FILE",
            ),
            (Alert::ProtocolVersion, TLS, "DB_SSL_MIN_VERSION"),
            (Alert::InternalError, TLS, "InternalError"),
        ] {
            let (found, text) = DB.explain(&Error::AlertReceived(alert));
            assert_eq!(found, kind, "{text}");
            assert!(text.contains(word), "{text}");
        }
    }
}
