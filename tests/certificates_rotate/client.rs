//! The client's certificate expires, and is renewed.

use std::time::{Duration, SystemTime};

use millpond::backend::Backend as _;
use millpond::health::CertificateOf;
use millpond::{ConnectFailure, ErrorKind, Pool};
use testbed::{Ca, Proxy};

use crate::crowd::Crowd;
use crate::files::Files;
use crate::subject::Certified;
use crate::{MEANWHILE, SOON, ask};

const LIFETIME: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_secs(86_400);
/// A certificate that is not accepted is one of these.
const REFUSED: [ErrorKind; 2] = [
    ErrorKind::Authentication,
    ErrorKind::Connect(ConnectFailure::Tls),
];

/// The words are in what callers are told.
fn is_renewed<S: Certified>(words: &[&str]) {
    let ca = Ca::new();
    let server = S::serve(&ca, &ca.server(&["127.0.0.1"]), true);
    let proxy = Proxy::start(server.port()).unwrap();
    let files = Files::new();
    files.write("ca.pem", ca.cert_pem());
    files.write_client(&ca.issue().expiring_in(LIFETIME).client("test"));
    let expired = SystemTime::now() + LIFETIME + Duration::from_secs(1);
    let pool = Pool::builder()
        .max_size(8)
        .health_check_interval(Some(Duration::from_millis(100)))
        .build(S::client(proxy.port(), &files, true))
        .unwrap();
    ask::<S>(&pool).unwrap();

    // What exists is left alone.
    let left = expired.duration_since(SystemTime::now());
    std::thread::sleep(left.unwrap_or_default());
    ask::<S>(&pool).unwrap();

    // Every connection ends, and no session can be resumed, as which the old certificate counts.
    server.restart();
    let before = proxy.accepted();
    Crowd::during(
        || ask::<S>(&pool),
        |crowd| {
            std::thread::sleep(MEANWHILE / 2);
            for garbage in ["", "garbage", &ca.cert_pem()[..200]] {
                for name in ["client.pem", "both.pem"] {
                    files.write(name, garbage);
                }
                std::thread::sleep(MEANWHILE / 6);
            }
            let refused = pool.metrics().connect_failures;
            let refused = refused.iter().filter(|(kind, _)| REFUSED.contains(kind));
            let refused = refused.map(|(_, count)| count).sum::<u64>();
            let accepted = proxy.accepted() - before;
            let told = crowd.errors();
            assert_eq!(files.warnings(), 1);

            files.write_client(&ca.client("test"));
            let took = crowd.all_served();
            println!(
                "{}: {refused} attempts refused, {accepted} connections, {} callers told; all \
                 served {took:?} after the files changed",
                S::Manager::NAME,
                told.len()
            );
            assert!(took < SOON, "{took:?}");
            let (most, connections) = match S::Manager::NAME {
                // A failed handshake is no login, and the driver's monitors connect by themselves.
                "mongodb" => (6, u64::MAX),
                // Each connection that existed opens its own again by itself, once.
                "http" => (3, 3 + 8),
                _ => (3, 3),
            };
            assert!((1..=most).contains(&refused), "{refused}");
            assert!(accepted <= connections, "{accepted}");
            for word in words {
                assert!(told.iter().any(|told| told.contains(word)), "{told:?}");
            }
        },
    );
    let renewed = || {
        let certificates = pool.metrics().certificates;
        let mut own = certificates.iter();
        let own = own.find(|one| one.of == CertificateOf::Client);
        own.is_some_and(|own| own.expires_at > SystemTime::now() + DAY)
    };
    crate::eventually("the new certificate's end", renewed);
}

#[test]
fn of_postgres() {
    let words = ["authentication failed", "certificate", "DB_SSL_CERT_FILE"];
    is_renewed::<testbed::Postgres>(&words);
}

#[test]
fn of_redis() {
    let words = [
        "authentication failed",
        "certificate",
        "REDIS_SSL_CERT_FILE",
    ];
    is_renewed::<testbed::Redis>(&words);
}

#[test]
fn of_mongodb() {
    is_renewed::<testbed::Mongo>(&["TLS failed", "certificate", "MONGODB_SSL_CERT_FILE"]);
}

#[test]
fn of_http() {
    let words = ["authentication failed", "certificate", "HTTP_SSL_CERT_FILE"];
    is_renewed::<testbed::Nginx>(&words);
}
