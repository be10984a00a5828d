//! What a program written for r2d2 0.8.10 relies on, with the import changed and
//! nothing else.

use millpond as r2d2;

mod scripted;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use r2d2::event::{
    AcquireEvent, CheckinEvent, CheckoutEvent, HandleEvent, ReleaseEvent, TimeoutEvent,
};
use r2d2::{CustomizeConnection, HandleError, Pool, PooledConnection};
use scripted::{Act, Conn, Failure, Manager, until};

fn is_send<T: Send + 'static>(_: &T) {}

#[test]
fn defaults_and_getters() {
    let pool = Pool::new(Manager::new()).expect("opens");
    assert_eq!(pool.max_size(), 10);
    assert_eq!(pool.min_idle(), None);
    assert!(pool.test_on_check_out());
    assert_eq!(pool.max_lifetime(), Some(Duration::from_secs(1800)));
    assert_eq!(pool.idle_timeout(), Some(Duration::from_secs(600)));
    assert_eq!(pool.connection_timeout(), Duration::from_secs(30));
    let state = pool.state();
    // Without `min_idle` a pool opens `max_size` connections before it is handed out.
    assert_eq!((state.connections, state.idle_connections), (10, 10));
    let pool = Pool::builder()
        .max_size(7)
        .min_idle(Some(3))
        .test_on_check_out(false)
        .max_lifetime(None)
        .idle_timeout(Some(Duration::from_secs(5)))
        .connection_timeout(Duration::from_secs(2))
        .build(Manager::new())
        .expect("opens");
    assert_eq!((pool.max_size(), pool.min_idle()), (7, Some(3)));
    assert!(!pool.test_on_check_out());
    assert_eq!(
        (pool.max_lifetime(), pool.idle_timeout()),
        (None, Some(Duration::from_secs(5)))
    );
    assert_eq!(pool.connection_timeout(), Duration::from_secs(2));
    assert_eq!(pool.state().connections, 3);
}

#[test]
fn wrong_settings_panic_as_documented() {
    let builder = || Pool::<Manager>::builder();
    let panics =
        |build: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)).is_err();
    assert!(panics(&|| drop(builder().max_size(0))));
    assert!(panics(&|| drop(
        builder().max_lifetime(Some(Duration::ZERO))
    )));
    assert!(panics(&|| drop(
        builder().idle_timeout(Some(Duration::ZERO))
    )));
    assert!(panics(&|| drop(
        builder().connection_timeout(Duration::ZERO)
    )));
    let small = || builder().max_size(2).min_idle(Some(3));
    assert!(panics(&|| drop(small().build_unchecked(Manager::new()))));
}

#[test]
fn what_is_debug_prints_what_matters() {
    #[derive(Debug)]
    struct Silent;
    impl r2d2::ManageConnection for Silent {
        type Connection = u8;
        type Error = std::io::Error;
        fn connect(&self) -> Result<u8, std::io::Error> {
            Ok(3)
        }
        fn is_valid(&self, _: &mut u8) -> Result<(), std::io::Error> {
            Ok(())
        }
        fn has_broken(&self, _: &mut u8) -> bool {
            false
        }
    }
    let builder = Pool::builder().max_size(1);
    assert!(format!("{builder:?}").contains("max_size: 1"));
    let pool = builder.build(Silent).expect("opens");
    let text = format!("{pool:?}");
    for part in [
        "Pool",
        "state",
        "config",
        "manager: Silent",
        "connections: 1",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(format!("{:?}", pool.get().expect("a connection")), "3");
    assert!(format!("{:?}", pool.state()).contains("idle_connections: 1"));
}

#[test]
fn leases_come_back_and_travel() {
    let pool = Pool::builder()
        .max_size(2)
        .build(Manager::new())
        .expect("opens");
    let one = pool.get().expect("a connection");
    let two = pool.clone().get().expect("a connection");
    is_send(&one);
    is_send(&pool);
    assert_ne!(one.number, two.number);
    assert!(pool.try_get().is_none());
    let start = Instant::now();
    assert!(pool.get_timeout(Duration::from_millis(100)).is_err());
    assert!(start.elapsed() >= Duration::from_millis(100));
    std::thread::spawn(move || drop(one))
        .join()
        .expect("no panic");
    assert_eq!(pool.state().idle_connections, 1);
    assert!(pool.try_get().is_some());
    let text = pool.get_timeout(Duration::from_millis(1)).map(drop);
    assert!(text.is_ok());
    drop(two);
    assert_eq!(pool.state().idle_connections, 2);
}

#[test]
fn a_waiter_gets_what_comes_back() {
    let pool = Pool::builder()
        .max_size(1)
        .build(Manager::new())
        .expect("opens");
    let lease = pool.get().expect("a connection");
    let waiter = {
        let pool = pool.clone();
        std::thread::spawn(move || pool.get().map(|lease| lease.number))
    };
    until("a waiter", || pool.state().waiters == 1);
    let number = lease.number;
    drop(lease);
    assert_eq!(waiter.join().expect("no panic").expect("served"), number);
}

#[test]
fn building_fails_when_nothing_can_be_opened_and_unchecked_does_not() {
    let manager = Manager::new();
    manager
        .0
        .set(|script| &script.always_at_connect, Act::Refuse);
    let builder = || Pool::builder().connection_timeout(Duration::from_millis(200));
    let error = builder()
        .build(manager.clone())
        .expect_err("nothing can be opened");
    assert!(
        error
            .to_string()
            .contains("timed out waiting for connection"),
        "{error}"
    );
    assert!(error.to_string().contains("scripted: Refuse"), "{error}");
    let pool = builder().build_unchecked(manager.clone());
    assert_eq!(pool.state().connections, 0);
    assert!(pool.get().is_err());
    manager.0.set(|script| &script.always_at_connect, None);
    until("recovery", || pool.get().is_ok());
}

#[derive(Debug, Default)]
struct Customizer {
    acquired: AtomicU64,
    released: Mutex<Vec<u64>>,
}

#[derive(Debug)]
struct Shared(Arc<Customizer>);

impl CustomizeConnection<Conn, Failure> for Shared {
    fn on_acquire(&self, _: &mut Conn) -> Result<(), Failure> {
        match self.0.acquired.fetch_add(1, SeqCst) {
            0 => Err(Failure(Act::Refuse)),
            _ => Ok(()),
        }
    }

    fn on_release(&self, conn: Conn) {
        self.0.released.lock().expect("no poison").push(conn.number);
    }
}

#[derive(Debug)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl HandleError<Failure> for Errors {
    fn handle_error(&self, error: Failure) {
        self.0.lock().expect("no poison").push(error.to_string());
    }
}

#[test]
fn customizers_and_error_handlers_are_asked() {
    let custom = Arc::new(Customizer::default());
    let errors = Arc::new(Mutex::new(Vec::new()));
    let pool = Pool::builder()
        .max_size(1)
        .connection_customizer(Box::new(Shared(Arc::clone(&custom))))
        .error_handler(Box::new(Errors(Arc::clone(&errors))))
        .build(Manager::new())
        .expect("the second attempt succeeds");
    assert_eq!(*errors.lock().expect("no poison"), ["scripted: Refuse"]);
    assert_eq!(custom.acquired.load(SeqCst), 2);
    let mut lease = pool.get().expect("a connection");
    lease.broken = true;
    drop(lease);
    until("the release", || {
        *custom.released.lock().expect("no poison") == [1]
    });
    until("a new connection", || pool.state().idle_connections == 1);
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

#[derive(Debug)]
struct Handler(Arc<Log>);

impl Handler {
    fn note(&self, text: String) {
        self.0.0.lock().expect("no poison").push(text);
    }
}

impl HandleEvent for Handler {
    fn handle_acquire(&self, event: AcquireEvent) {
        self.note(format!("acquire {}", event.connection_id()));
    }
    fn handle_release(&self, event: ReleaseEvent) {
        assert!(event.age() > Duration::ZERO);
        self.note(format!("release {}", event.connection_id()));
    }
    fn handle_checkout(&self, event: CheckoutEvent) {
        assert!(event.duration() < Duration::from_secs(5));
        self.note(format!("checkout {}", event.connection_id()));
    }
    fn handle_timeout(&self, event: TimeoutEvent) {
        self.note(format!("timeout {:?}", event.timeout()));
    }
    fn handle_checkin(&self, event: CheckinEvent) {
        assert!(event.duration() >= Duration::from_millis(20));
        self.note(format!("checkin {}", event.connection_id()));
    }
}

#[test]
fn events_tell_a_connections_life() {
    let log = Arc::new(Log::default());
    let pool = Pool::builder()
        .max_size(1)
        .event_handler(Box::new(Handler(Arc::clone(&log))))
        .build(Manager::new())
        .expect("opens");
    let mut lease = pool.get().expect("a connection");
    assert!(pool.get_timeout(Duration::from_millis(20)).is_err());
    lease.broken = true;
    drop(lease);
    until("the next connection", || pool.state().idle_connections == 1);
    until("the release", || {
        log.0.lock().expect("no poison").len() >= 6
    });
    let log = log.0.lock().expect("no poison");
    let id = log[0]
        .strip_prefix("acquire ")
        .expect("acquired first")
        .to_owned();
    let told = [
        format!("acquire {id}"),
        format!("checkout {id}"),
        "timeout 20ms".into(),
        format!("checkin {id}"),
        format!("release {id}"),
    ];
    assert_eq!(log[..5], told);
    assert!(
        log[5].starts_with("acquire ") && log[5] != log[0],
        "{log:?}"
    );
}

#[test]
fn extensions_stay_with_their_connection() {
    let pool = Pool::builder()
        .max_size(1)
        .build(Manager::new())
        .expect("opens");
    let mut lease = pool.get().expect("a connection");
    assert_eq!(PooledConnection::extensions(&lease).get::<u32>(), None);
    PooledConnection::extensions_mut(&mut lease).insert(7_u32);
    drop(lease);
    let mut lease = pool.get().expect("a connection");
    assert_eq!(PooledConnection::extensions(&lease).get::<u32>(), Some(&7));
    lease.broken = true;
    drop(lease);
    let lease = pool.get().expect("a new connection");
    assert_eq!(PooledConnection::extensions(&lease).get::<u32>(), None);
}

#[test]
fn every_checkout_is_tested_or_none_is() {
    let manager = Manager::new();
    let script = manager.script();
    let pool = Pool::builder()
        .max_size(1)
        .test_on_check_out(true)
        .build(manager)
        .expect("opens");
    for _ in 0..3 {
        pool.get().expect("a connection");
    }
    assert_eq!(script.checks.load(SeqCst), 3);
    script.kill_all();
    assert_eq!(pool.get().expect("another connection").number, 1);

    let manager = Manager::new();
    let script = manager.script();
    let pool = Pool::builder()
        .max_size(1)
        .test_on_check_out(false)
        .build(manager)
        .expect("opens");
    script.kill_all();
    assert_eq!(pool.get().expect("the dead one, untested").number, 0);
    assert_eq!(script.checks.load(SeqCst), 0);
}

#[test]
fn idle_and_old_connections_are_closed() {
    let manager = Manager::new();
    let script = manager.script();
    let pool = Pool::builder()
        .max_size(3)
        .min_idle(Some(1))
        .idle_timeout(Some(Duration::from_millis(200)))
        .build(manager)
        .expect("opens");
    let held = pool.get().expect("a connection");
    until("the idle ones end", || script.connects.load(SeqCst) > 3);
    assert_eq!(held.number, 0, "what is leased is not idle");

    let manager = Manager::new();
    let script = manager.script();
    let pool = Pool::builder()
        .max_size(1)
        .max_lifetime(Some(Duration::from_millis(200)))
        .build(manager)
        .expect("opens");
    let lease = pool.get().expect("a connection");
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(script.live(), 1, "what is leased stays open");
    drop(lease);
    assert_ne!(pool.get().expect("a young one").number, 0);
}

#[test]
fn idle_connections_are_refilled_beside_leased_ones() {
    let pool = Pool::builder()
        .max_size(5)
        .min_idle(Some(2))
        .build(Manager::new())
        .expect("opens");
    assert_eq!(pool.state().connections, 2);
    let leases: Vec<_> = (0..3).map(|_| pool.get().expect("a connection")).collect();
    until("refilled", || {
        pool.state().idle_connections == 2 && pool.state().connections == 5
    });
    drop(leases);
    assert_eq!(
        (pool.state().connections, pool.state().idle_connections),
        (5, 5)
    );
}

#[test]
fn a_pool_can_be_dropped_before_its_leases() {
    let manager = Manager::new();
    let script = manager.script();
    let pool = Pool::builder().max_size(2).build(manager).expect("opens");
    let lease = pool.get().expect("a connection");
    drop(pool);
    until("the idle one is closed", || script.live() == 1);
    assert!(!lease.broken);
    drop(lease);
    until("everything is closed", || script.live() == 0);
    until("the manager is dropped", || Arc::strong_count(&script) == 1);
}

#[test]
fn a_thread_pool_is_accepted() {
    let threads = Arc::new(scheduled_thread_pool::ScheduledThreadPool::new(1));
    let pool = Pool::builder()
        .thread_pool(threads)
        .build(Manager::new())
        .expect("opens");
    pool.get().expect("a connection");
}
