//! The authority is replaced, and the server's certificate with it.

use std::time::Duration;

use millpond::{Http, MongoDb, Pool, Postgres, Redis};
use testbed::{Ca, Proxy};

use crate::crowd::Crowd;
use crate::files::Files;
use crate::subject::Subject;
use crate::{MEANWHILE, SOON};

fn is_replaced<M: Subject>() {
    let (old, new) = (Ca::new(), Ca::new());
    let server = M::serve(&old, &old.server(&["127.0.0.1"]), false);
    let proxy = Proxy::start(M::port(&server)).unwrap();
    let files = Files::new();
    files.write("ca.pem", old.cert_pem());
    let pool = Pool::builder()
        .max_size(8)
        .health_check_interval(Some(Duration::from_millis(100)))
        .build(M::at(proxy.port(), &files, false))
        .unwrap();
    M::ask(&pool).unwrap();

    // Garbage does no harm, to what exists and to what is opened.
    files.write("ca.pem", "garbage");
    proxy.cut();
    crate::eventually("works with what the file said", || M::ask(&pool).is_ok());
    crate::eventually("a warning", || files.warnings() == 1);
    files.write("ca.pem", old.cert_pem());
    proxy.cut();
    crate::eventually("works with the file mended", || M::ask(&pool).is_ok());

    M::show(&server, &new.server(&["127.0.0.1"]));
    let failed_before = pool.metrics().create_failed;
    Crowd::during(
        || M::ask(&pool),
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
                M::NAME,
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
    is_replaced::<Postgres>();
}

#[test]
fn of_redis() {
    is_replaced::<Redis>();
}

#[test]
fn of_mongodb() {
    is_replaced::<MongoDb>();
}

#[test]
fn of_http() {
    is_replaced::<Http>();
}
