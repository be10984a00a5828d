//! Every server speaks TLS with the authority's certificates, and clients that
//! look closely accept the good ones only.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use testbed::{Ca, Identity, Mongo, Nginx, Postgres, Redis};

const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Shakes hands, sends `question`, and returns the first bytes of the answer.
fn ask(
    mut stream: TcpStream,
    ca: &Ca,
    client: Option<&Identity>,
    question: &[u8],
) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).expect("a certificate");
    roots.add(root).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let cert = CertificateDer::from_pem_file(identity.cert_path()).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(identity.key_path()).expect("a key");
            builder
                .with_client_auth_cert(vec![cert], key)
                .expect("a pair")
        }
    };
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(Arc::new(config), name).expect("a session");
    session.complete_io(&mut stream)?;
    let mut stream = StreamOwned::new(session, stream);
    stream.write_all(question)?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).expect("a connection")
}

#[test]
fn nginx_and_its_clients_check_certificates() {
    let ca = Ca::new();
    let nginx = Nginx::builder().tls(&ca).start().expect("nginx");
    let answer = ask(connect(nginx.port()), &ca, None, HELLO).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    let error = ask(connect(nginx.port()), &Ca::new(), None, HELLO).expect_err("a stranger");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    for (identity, complaint) in [
        (ca.issue().expired().server(), "expired"),
        (ca.issue().not_yet_valid().server(), "not valid yet"),
        (ca.issue().wrong_host().server(), "not valid for"),
    ] {
        let nginx = Nginx::builder()
            .tls_identity(&ca, &identity)
            .start()
            .expect("nginx");
        let error = ask(connect(nginx.port()), &ca, None, HELLO).expect_err(complaint);
        assert!(error.to_string().contains(complaint), "{error}");
    }
    let nginx = Nginx::builder()
        .tls(&ca)
        .client_certificates(true)
        .start()
        .expect("nginx");
    let answer = ask(connect(nginx.port()), &ca, None, HELLO).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 400"));
    let client = ca.client("app");
    let answer = ask(connect(nginx.port()), &ca, Some(&client), HELLO).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn redis_wants_a_certificate_only_if_told_to() {
    let ca = Ca::new();
    let redis = Redis::builder().tls(&ca).start().expect("Redis");
    let answer = ask(connect(redis.port()), &ca, None, b"PING\r\n").expect("an answer");
    assert_eq!(answer, b"+PONG\r\n");
    let redis = Redis::builder()
        .tls(&ca)
        .client_certificates(true)
        .start()
        .expect("Redis");
    assert!(ask(connect(redis.port()), &ca, None, b"PING\r\n").is_err());
    let client = ca.client("app");
    let answer = ask(connect(redis.port()), &ca, Some(&client), b"PING\r\n");
    assert_eq!(answer.expect("an answer"), b"+PONG\r\n");
}

#[test]
fn mongod_wants_a_certificate_only_if_told_to() {
    let ca = Ca::new();
    // `hello` in an OP_MSG.
    let hello = b"\x34\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\
        \x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0";
    let mongo = Mongo::builder().tls(&ca).start().expect("MongoDB");
    let answer = ask(connect(mongo.port()), &ca, None, hello).expect("an answer");
    assert!(answer.windows(17).any(|part| part == b"isWritablePrimary"));
    let mongo = Mongo::builder()
        .tls(&ca)
        .client_certificates(true)
        .start()
        .expect("MongoDB");
    let answer = ask(connect(mongo.port()), &ca, None, hello);
    assert!(!answer.is_ok_and(|bytes| !bytes.is_empty()));
    let client = ca.client("app");
    let answer = ask(connect(mongo.port()), &ca, Some(&client), hello).expect("an answer");
    assert!(answer.windows(17).any(|part| part == b"isWritablePrimary"));
    let mongo = Mongo::builder()
        .tls(&ca)
        .auth()
        .replica_set(1)
        .start()
        .expect("MongoDB");
    let answer = ask(connect(mongo.port()), &ca, None, hello).expect("an answer");
    assert!(answer.windows(7).any(|part| part == b"setName"));
    let mut plain = connect(mongo.port());
    plain.write_all(hello).expect("room in the socket");
    let mut answer = Vec::new();
    // Cut off, one way or the other, without a reply.
    let _ = plain.read_to_end(&mut answer);
    assert_eq!(answer, b"");
}

/// Asks a PostgreSQL server for TLS, then to log in; the answer's kind.
fn postgres_login(port: u16, ca: &Ca, client: Option<&Identity>) -> std::io::Result<u8> {
    let mut stream = connect(port);
    stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f")?;
    let mut agreed = [0];
    stream.read_exact(&mut agreed)?;
    assert_eq!(agreed, *b"S");
    let login = b"\0\0\0\x25\0\x03\0\0user\0test\0database\0postgres\0\0";
    let login = [&[0, 0, 0, login.len() as u8], &login[4..]].concat();
    let answer = ask(stream, ca, client, &login)?;
    answer
        .first()
        .copied()
        .ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

#[test]
fn postgres_knows_its_users_by_their_certificates() {
    let ca = Ca::new();
    let postgres = Postgres::builder().tls(&ca).start().expect("PostgreSQL");
    let kind = postgres_login(postgres.port(), &ca, None).expect("an answer");
    assert_eq!(kind, b'R');
    let postgres = Postgres::builder()
        .tls(&ca)
        .client_certificates(true)
        .start()
        .expect("PostgreSQL");
    let test = ca.client("test");
    let kind = postgres_login(postgres.port(), &ca, Some(&test)).expect("an answer");
    assert_eq!(kind, b'R');
    for client in [
        None,
        Some(&ca.client("other")),
        Some(&Ca::new().client("test")),
    ] {
        let kind = postgres_login(postgres.port(), &ca, client);
        assert!(!kind.is_ok_and(|kind| kind == b'R'), "{client:?}");
    }
}
