//! A service that works on four requests at once and answers 503 to more.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use millpond::{ErrorKind, Http, HttpConfig, HttpRequest, Pool};

/// Sixteen callers that try again a little later, for three seconds; how many were served and how
/// many refused in the first of them, and in the others.
fn load(server: &testbed::Nginx, adaptive: bool) -> [(u64, u64); 2] {
    let config = HttpConfig::new(server.url());
    let pool = Pool::builder()
        .max_size(16)
        .min_idle(Some(0))
        .retry_attempts(1)
        .breaker(None)
        .adaptive(adaptive)
        .build(Http::new(config).unwrap())
        .unwrap();
    let counts: [(AtomicU64, AtomicU64); 2] = Default::default();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while begun.elapsed() < Duration::from_secs(3) {
                    let reply = pool.execute(HttpRequest::get("/slow/20"));
                    let is_later = begun.elapsed() > Duration::from_secs(1);
                    let (served, refused) = &counts[usize::from(is_later)];
                    match reply {
                        Ok(_) => served.fetch_add(1, SeqCst),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
                            std::thread::sleep(Duration::from_millis(5));
                            refused.fetch_add(1, SeqCst)
                        }
                    };
                }
            });
        }
    });
    assert_eq!(pool.state().limit < 16, adaptive);
    counts.map(|(served, refused)| (served.into_inner(), refused.into_inner()))
}

#[test]
fn far_fewer_requests_are_refused() {
    let server = testbed::Nginx::builder()
        .directive("limit_conn busy 4")
        .start()
        .unwrap();
    let share = |(served, refused): (u64, u64)| refused as f64 / (served + refused) as f64;
    let [_, fixed] = load(&server, false);
    let [first, adaptive] = load(&server, true);
    println!(
        "served and refused in two seconds: {fixed:?} with a fixed number, {adaptive:?} with a \
         limit, for which it took a second before with {first:?}"
    );
    assert!(share(fixed) > 0.3, "it is overloaded: {fixed:?}");
    assert!(share(adaptive) < share(fixed) / 10.0, "{adaptive:?}");
    // And it does as much as before.
    assert!(
        adaptive.0 * 10 > fixed.0 * 7,
        "{adaptive:?} after {fixed:?}"
    );
}

/// What becomes of the limit when a service answers so.
fn limit_after(server: &testbed::Nginx, status: u16) -> u32 {
    let pool = Pool::builder()
        .max_size(8)
        .retry_attempts(1)
        .build(Http::new(HttpConfig::new(server.url())).unwrap())
        .unwrap();
    let leases: Vec<_> = (0..4).map(|_| pool.get().unwrap()).collect();
    let reply = pool.execute(HttpRequest::get(format!("/status/{status}")));
    let error = reply.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    drop(leases);
    pool.state().limit
}

#[test]
fn only_what_fewer_requests_help_is_a_reason_for_fewer() {
    let server = testbed::Nginx::start().unwrap();
    for (status, limit) in [(408, 8), (425, 8), (429, 3), (503, 3), (529, 3)] {
        assert_eq!(limit_after(&server, status), limit, "{status}");
    }
}
