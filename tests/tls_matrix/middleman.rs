//! One who reads everything between a PostgreSQL client and its server, with a certificate
//! that the client trusts.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use testbed::Ca;

/// Asks for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Its thread ends with the process.
pub(super) struct Middleman {
    port: u16,
}

impl Middleman {
    pub(super) fn between(ca: &Ca, server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let provider = Arc::new(ring::default_provider());
        let identity = ca.server(&["localhost"]);
        let chain = vec![CertificateDer::from_pem_slice(identity.cert_pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).unwrap();
        let own = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap();
        roots.add(root).unwrap();
        let towards = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (own, towards) = (Arc::new(own), Arc::new(towards));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (own, towards) = (Arc::clone(&own), Arc::clone(&towards));
                // It ends in an error when either side hangs up.
                thread::spawn(move || pass(client, server, own, towards));
            }
        });
        Self { port }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// A login is talk and answer in turn, so one thread can carry it, each way in its turn.
fn pass(
    mut client: TcpStream,
    server: u16,
    own: Arc<ServerConfig>,
    towards: Arc<ClientConfig>,
) -> io::Result<()> {
    client.read_exact(&mut [0; 8])?;
    client.write_all(b"S")?;
    let session = ServerConnection::new(own).map_err(io::Error::other)?;
    let mut client = StreamOwned::new(session, client);
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    server.write_all(&SSL_REQUEST)?;
    server.read_exact(&mut [0])?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let session = ClientConnection::new(towards, name).map_err(io::Error::other)?;
    let mut server = StreamOwned::new(session, server);
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = client.read(&mut buffer)?;
        server.write_all(&buffer[..length])?;
        let length = server.read(&mut buffer)?;
        client.write_all(&buffer[..length])?;
        if length == 0 {
            return Ok(());
        }
    }
}
