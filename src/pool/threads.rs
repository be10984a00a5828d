//! Numbers and names of the threads that use pools, so that a slot can say who
//! holds its connection with one integer.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

static NAMES: Mutex<Option<HashMap<u64, String>>> = Mutex::new(None);
static LAST: AtomicU64 = AtomicU64::new(0);

/// Forgets a thread's name when the thread ends.
struct Registration(u64);

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(names) = NAMES.lock().as_mut() {
            names.remove(&self.0);
        }
    }
}

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
    static REGISTRATION: Cell<Option<Registration>> = const { Cell::new(None) };
}

/// This thread's number; never 0.
#[inline]
pub(super) fn current() -> u64 {
    let number = NUMBER.get();
    if number == 0 { register() } else { number }
}

#[cold]
fn register() -> u64 {
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    NUMBER.set(number);
    let thread = std::thread::current();
    let name = thread
        .name()
        .map_or_else(|| format!("{:?}", thread.id()), str::to_owned);
    NAMES.lock().get_or_insert_default().insert(number, name);
    // Fails only while the thread is ending: then the name stays, a few bytes.
    let _ = REGISTRATION.try_with(|registration| registration.set(Some(Registration(number))));
    number
}

/// The name of the thread with this number.
pub(super) fn name(number: u64) -> String {
    let names = NAMES.lock();
    let name = names.as_ref().and_then(|names| names.get(&number));
    name.map_or_else(|| "a thread that has ended".to_owned(), Clone::clone)
}
