//! A throw-away certificate authority.
//!
//! Its key lives in memory; certificates and their keys also lie in files of a
//! temporary folder, since most servers and drivers want paths. The files live as
//! long as the [`Ca`] or any [`Identity`] of it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::folder::Folder;

/// A certificate authority that nobody trusts but who is told to.
///
/// Its functions panic where the fault could only be this machine's or the test's:
/// a full disk, or a host name that cannot be in a certificate.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
    cert_path: PathBuf,
    folder: Arc<Folder>,
}

impl Ca {
    /// A new authority, different from all others.
    ///
    /// # Panics
    ///
    /// If the temporary folder cannot be written to.
    pub fn new() -> Self {
        let folder = Folder::new("ca", None).expect("a temporary folder");
        let key = KeyPair::generate().expect("a new key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Of two authorities of one name, clients would blame the signature of the
        // wrong one instead of calling it unknown.
        let name = folder.unique_name().expect("a temporary folder");
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.self_signed(&key).expect("a self-signed certificate");
        let cert_pem = cert.pem();
        let cert_path = folder
            .write("ca.pem", &cert_pem, None)
            .expect("a file for the certificate");
        Self {
            issuer: Issuer::new(params, key),
            cert_pem,
            cert_path,
            folder: Arc::new(folder),
        }
    }

    /// The authority's certificate, to be trusted by the other side.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The same in a file.
    pub fn cert_path(&self) -> &Path {
        &self.cert_path
    }

    /// A certificate for a server of these host names and addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.issue().names(names).server()
    }

    /// A certificate for a client of this common name.
    pub fn client(&self, common_name: &str) -> Identity {
        self.issue().client(common_name)
    }

    /// A certificate with peculiarities, such as an expired one.
    pub fn issue(&self) -> Issue<'_> {
        Issue {
            ca: self,
            names: vec!["localhost".into(), "127.0.0.1".into()],
            validity: Validity::Now,
        }
    }
}

impl Default for Ca {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Copy, Debug)]
enum Validity {
    Now,
    Past,
    Future,
    /// Until then, since 1970.
    Until(Duration),
}

/// A certificate about to be issued; made by [`Ca::issue`].
#[derive(Clone, Debug)]
pub struct Issue<'a> {
    ca: &'a Ca,
    names: Vec<String>,
    validity: Validity,
}

impl Issue<'_> {
    /// The host names and addresses, instead of `localhost` and `127.0.0.1`.
    #[must_use]
    pub fn names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Only for a host that no test connects to.
    #[must_use]
    pub fn wrong_host(self) -> Self {
        self.names(&["elsewhere.invalid"])
    }

    /// Valid until the end of 2001.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.validity = Validity::Past;
        self
    }

    /// Valid from 2090 on.
    #[must_use]
    pub fn not_yet_valid(mut self) -> Self {
        self.validity = Validity::Future;
        self
    }

    /// Valid for so long from now on.
    #[must_use]
    pub fn expiring_in(mut self, left: Duration) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.validity = Validity::Until(now.unwrap_or_default() + left);
        self
    }

    /// Issues it to a server.
    pub fn server(self) -> Identity {
        let name = self.names.first().cloned().unwrap_or_default();
        // Members of a MongoDB set are each other's clients as well.
        self.sign(
            &name,
            &[
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        )
    }

    /// Issues it to a client of this common name, with no host names.
    pub fn client(mut self, common_name: &str) -> Identity {
        self.names.clear();
        self.sign(common_name, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn sign(self, common_name: &str, usages: &[ExtendedKeyUsagePurpose]) -> Identity {
        static COUNTER: AtomicU32 = AtomicU32::new(1);
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.extended_key_usages = usages.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = self.names.iter().map(|name| alt_name(name)).collect();
        let (from, to) = match self.validity {
            Validity::Now | Validity::Until(_) => (2020, 2080),
            Validity::Past => (2000, 2001),
            Validity::Future => (2090, 2095),
        };
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = match self.validity {
            Validity::Until(moment) => date_time_ymd(1970, 1, 1) + moment,
            _ => date_time_ymd(to, 12, 31),
        };
        let key = KeyPair::generate().expect("a new key");
        let cert = params
            .signed_by(&key, &self.ca.issuer)
            .expect("a signed certificate");
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let write = |name: String, text: &str| {
            self.ca
                .folder
                .write(&name, text, None)
                .expect("a file for the certificate")
        };
        let (cert_pem, key_pem) = (cert.pem(), key.serialize_pem());
        Identity {
            cert_path: write(format!("{number}.pem"), &cert_pem),
            key_path: write(format!("{number}.key"), &key_pem),
            cert_pem,
            key_pem,
            _folder: Arc::clone(&self.ca.folder),
        }
    }
}

fn alt_name(name: &str) -> SanType {
    match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into().expect("an ASCII host name")),
    }
}

/// A certificate and its private key.
#[derive(Clone, Debug)]
pub struct Identity {
    cert_pem: String,
    key_pem: String,
    cert_path: PathBuf,
    key_path: PathBuf,
    _folder: Arc<Folder>,
}

impl Identity {
    /// The certificate.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The private key, PKCS #8.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The certificate's file.
    pub fn cert_path(&self) -> &Path {
        &self.cert_path
    }

    /// The private key's file, readable by its owner only.
    pub fn key_path(&self) -> &Path {
        &self.key_path
    }

    /// Certificate and key in one text, as MongoDB wants them.
    pub fn combined_pem(&self) -> String {
        format!("{}{}", self.cert_pem, self.key_pem)
    }
}
