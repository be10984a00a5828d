//! A panic anywhere costs a connection at most, never a place in the pool and never
//! one of its threads (r2d2 #31, #7): in the manager, in a connection's `Drop`, in
//! customizers, hooks and handlers, and in the program's own code while it holds a
//! lease.

mod scripted;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millpond::event::{
    AcquireEvent, CheckinEvent, CheckoutEvent, HandleEvent, ReleaseEvent, TimeoutEvent,
};
use millpond::{
    Builder, CloseReason, CustomizeConnection, HandleError, Phase, Pool, PooledConnection,
};
use scripted::{Act, Conn, Failure, Manager, Script, quiet_panics, until};

const SIZE: u32 = 3;
/// More than the pool has places: if each panic cost one, none would be left.
const PANICS: u64 = 7;

/// Panics as often as it was armed for.
#[derive(Clone, Debug, Default)]
struct Bomb(Arc<AtomicU64>);

impl Bomb {
    fn arm(&self) {
        self.0.store(PANICS, SeqCst);
    }

    fn is_armed(&self) -> bool {
        self.0.load(SeqCst) > 0
    }

    fn pass(&self) {
        let left = self
            .0
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "scripted: a bomb");
    }
}

fn builder() -> Builder<Manager> {
    quiet_panics();
    // All the pool's machinery is in use: checks, expiry, refill.
    Pool::builder()
        .max_size(SIZE)
        .test_on_check_out(true)
        .idle_timeout(Some(Duration::from_millis(300)))
        .connection_timeout(Duration::from_secs(20))
}

/// Leases all that can be leased, times out on one more, gives one back broken for
/// good and the others as they are.
fn exercise(pool: &Pool<Manager>) {
    let leases: Vec<_> = (0..SIZE)
        .filter_map(|_| pool.get_timeout(Duration::from_secs(2)).ok())
        .collect();
    drop(pool.get_timeout(Duration::from_millis(1)));
    for (number, lease) in leases.into_iter().enumerate() {
        if number == 0 {
            lease.discard();
        } else {
            drop(lease);
        }
    }
}

/// All places can be leased at once, and the background still expires and refills.
fn assert_whole(pool: &Pool<Manager>, script: &Script) {
    let leases: Vec<_> = (0..SIZE)
        .map(|number| {
            let lease = pool.get_timeout(Duration::from_secs(10));
            lease.unwrap_or_else(|error| panic!("lease {number} of {SIZE}: {error}"))
        })
        .collect();
    assert_eq!(pool.state().leased, SIZE);
    assert_eq!(script.live(), u64::from(SIZE), "one connection per lease");
    assert!(pool.try_get().is_none());
    drop(leases);
    let before = script.connects();
    until("expiry and refill", || script.connects() > before);
    assert_eq!(script.peak.load(SeqCst), u64::from(SIZE));
    #[cfg(target_os = "linux")]
    until("one keeper", || {
        scripted::threads_named("millpond-keeper") == 1
    });
}

fn survives(
    builder: Builder<Manager>,
    arm: impl FnOnce(&Script),
    goes_on: impl Fn(&Script) -> bool,
) {
    let manager = Manager::new();
    let script = manager.script();
    let pool = builder.build(manager).expect("opens");
    arm(&script);
    until("enough panics", || {
        exercise(&pool);
        !goes_on(&script)
    });
    assert_whole(&pool, &script);
}

/// The manager panics in this place, again and again.
fn survives_in_manager(place: impl Fn(&Script) -> &Mutex<Option<Act>> + Copy) {
    let left = AtomicU64::new(PANICS);
    survives(
        builder(),
        |script| script.set(place, Act::Panic),
        |script| {
            if place(script).lock().expect("no poison").is_none() {
                if left.fetch_sub(1, SeqCst) == 1 {
                    return false;
                }
                script.set(place, Act::Panic);
            }
            true
        },
    );
}

fn survives_bomb(build: impl FnOnce(Builder<Manager>, Bomb) -> Builder<Manager>) {
    let bomb = Bomb::default();
    survives(
        build(builder(), bomb.clone()),
        |_| bomb.arm(),
        |_| bomb.is_armed(),
    );
}

#[test]
fn in_connect() {
    survives_in_manager(|script| &script.at_connect);
}

#[test]
fn in_is_valid() {
    survives_in_manager(|script| &script.at_check);
}

#[test]
fn in_has_broken() {
    survives_in_manager(|script| &script.at_has_broken);
}

#[test]
fn in_a_connections_drop() {
    survives_in_manager(|script| &script.at_drop);
}

#[derive(Debug)]
struct Customizer {
    on_acquire: Bomb,
    on_release: Bomb,
}

impl CustomizeConnection<Conn, Failure> for Customizer {
    fn on_acquire(&self, _: &mut Conn) -> Result<(), Failure> {
        self.on_acquire.pass();
        Ok(())
    }

    fn on_release(&self, _: Conn) {
        self.on_release.pass();
    }
}

#[test]
fn in_on_acquire() {
    survives_bomb(|builder, bomb| {
        builder.connection_customizer(Box::new(Customizer {
            on_acquire: bomb,
            on_release: Bomb::default(),
        }))
    });
}

#[test]
fn in_on_release() {
    survives_bomb(|builder, bomb| {
        builder.connection_customizer(Box::new(Customizer {
            on_acquire: Bomb::default(),
            on_release: bomb,
        }))
    });
}

fn passing(bomb: Bomb) -> impl Fn(&mut Conn) -> Result<(), Failure> {
    move |_| {
        bomb.pass();
        Ok(())
    }
}

#[test]
fn in_after_connect() {
    survives_bomb(|builder, bomb| builder.after_connect(passing(bomb)));
}

#[test]
fn in_before_lease() {
    survives_bomb(|builder, bomb| builder.before_lease(passing(bomb)));
}

#[test]
fn in_after_return() {
    survives_bomb(|builder, bomb| builder.after_return(passing(bomb)));
}

#[test]
fn a_panicking_before_lease_is_the_callers_error() {
    let bomb = Bomb::default();
    let pool = builder()
        .before_lease(passing(bomb.clone()))
        .build(Manager::new())
        .expect("opens");
    bomb.arm();
    let error = pool.get().expect_err("the hook panics");
    assert_eq!(error.phase(), Phase::Hook);
    assert!(error.to_string().contains("scripted: a bomb"), "{error}");
    until("it is closed", || {
        pool.metrics().closed_by(CloseReason::Hook) == 1
    });
}

#[derive(Debug)]
struct Errors(Bomb);

impl HandleError<Failure> for Errors {
    fn handle_error(&self, _: Failure) {
        self.0.pass();
    }
}

#[test]
fn in_the_error_handler() {
    let bomb = Bomb::default();
    survives(
        builder().error_handler(Box::new(Errors(bomb.clone()))),
        |_| bomb.arm(),
        |script| {
            script.set(|script| &script.at_connect, Act::Refuse);
            bomb.is_armed()
        },
    );
}

/// Panics in the one method that its bomb is for.
#[derive(Debug)]
struct Events(&'static str, Bomb);

impl Events {
    fn pass(&self, method: &str) {
        if method == self.0 {
            self.1.pass();
        }
    }
}

impl HandleEvent for Events {
    fn handle_acquire(&self, _: AcquireEvent) {
        self.pass("acquire");
    }
    fn handle_release(&self, _: ReleaseEvent) {
        self.pass("release");
    }
    fn handle_checkout(&self, _: CheckoutEvent) {
        self.pass("checkout");
    }
    fn handle_timeout(&self, _: TimeoutEvent) {
        self.pass("timeout");
    }
    fn handle_checkin(&self, _: CheckinEvent) {
        self.pass("checkin");
    }
}

#[test]
fn in_an_event_handler() {
    for method in ["acquire", "release", "checkout", "timeout", "checkin"] {
        survives_bomb(|builder, bomb| builder.event_handler(Box::new(Events(method, bomb))));
    }
}

/// What a program attached to a connection is dropped with it.
#[test]
fn in_an_extensions_drop() {
    struct Attached;
    impl Drop for Attached {
        fn drop(&mut self) {
            panic!("scripted: in an extension's drop");
        }
    }
    let manager = Manager::new();
    let script = manager.script();
    let pool = builder().build(manager).expect("opens");
    for _ in 0..PANICS {
        let mut lease = pool.get().expect("a connection");
        PooledConnection::extensions_mut(&mut lease).insert(Attached);
        lease.discard();
    }
    assert_whole(&pool, &script);
}

#[test]
fn in_the_callers_code() {
    let manager = Manager::new();
    let script = manager.script();
    let pool = builder().build(manager).expect("opens");
    for panics in 1..=PANICS {
        let number = AtomicU64::new(0);
        let work = AssertUnwindSafe(|| {
            let lease = pool.get().expect("a connection");
            number.store(lease.number, SeqCst);
            panic!("scripted: in the caller's code");
        });
        assert!(catch_unwind(work).is_err());
        // Nobody gets the connection that the panic left in an unknown state.
        until("it is closed", || {
            pool.metrics().closed_by(CloseReason::Panicked) == panics
        });
        let leases: Vec<_> = (0..SIZE)
            .map(|_| pool.get().expect("a connection"))
            .collect();
        assert!(
            leases
                .iter()
                .all(|lease| lease.number != number.load(SeqCst))
        );
    }
    assert_whole(&pool, &script);
}
