//! The authority is replaced, and the server's certificate with it.

use std::time::Duration;

use millpond::Pool;
use millpond::backend::Backend as _;
use testbed::{Ca, Proxy};

use crate::crowd::Crowd;
use crate::files::Files;
use crate::subject::Certified;
use crate::{MEANWHILE, SOON, ask};

fn is_replaced<S: Certified>() {
    let (old, new) = (Ca::new(), Ca::new());
    let server = S::serve(&old, &old.server(&["127.0.0.1"]), false);
    let proxy = Proxy::start(server.port()).unwrap();
    let files = Files::new();
    files.write("ca.pem", old.cert_pem());
    let pool = Pool::builder()
        .max_size(8)
        .health_check_interval(Some(Duration::from_millis(100)))
        .build(S::client(proxy.port(), &files, false))
        .unwrap();
    ask::<S>(&pool).unwrap();

    // Garbage does no harm, to what exists and to what is opened.
    files.write("ca.pem", "garbage");
    proxy.cut();
    crate::eventually("works with what the file said", || ask::<S>(&pool).is_ok());
    crate::eventually("a warning", || files.warnings() == 1);
    files.write("ca.pem", old.cert_pem());
    proxy.cut();
    crate::eventually("works with the file mended", || ask::<S>(&pool).is_ok());

    server.show(&new.server(&["127.0.0.1"]));
    let failed_before = pool.metrics().create_failed;
    Crowd::during(
        || ask::<S>(&pool),
        |crowd| {
            std::thread::sleep(MEANWHILE / 4);
            std::fs::remove_file(files.path("ca.pem")).unwrap();
            std::thread::sleep(MEANWHILE / 4);
            let told = crowd.errors();
            let failed = pool.metrics().create_failed - failed_before;
            assert_eq!(files.warnings(), 2);

            files.write("ca.pem", new.cert_pem());
            let took = crowd.all_served();
            println!(
                "{}: {failed} attempts failed, {} callers told; all served {took:?} after the \
                 file changed",
                S::Manager::NAME,
                told.len()
            );
            assert!(took < SOON, "{took:?}");
            // No login: so it may be tried every second or two, as the server may mend it.
            assert!(failed <= 6, "{failed}");
            let words = ["TLS failed", "the authority of the server's certificate"];
            for word in words {
                assert!(told.iter().any(|told| told.contains(word)), "{told:?}");
            }
        },
    );
}

#[test]
fn of_postgres() {
    is_replaced::<testbed::Postgres>();
}

#[test]
fn of_redis() {
    is_replaced::<testbed::Redis>();
}

#[test]
fn of_mongodb() {
    is_replaced::<testbed::Mongo>();
}

#[test]
fn of_http() {
    is_replaced::<testbed::Nginx>();
}
