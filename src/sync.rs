//! The atomics, locks and parking of what threads share without a lock (the pool's exchange, the
//! batch's gate and bell, the slots' meters, the circuit breaker's state): the real ones, or those
//! of the model checker, so that the very same code is checked.

#[cfg(not(millpond_loom))]
mod real {
    pub(crate) use crossbeam_utils::atomic::AtomicCell;
    pub(crate) use parking_lot::{Mutex, Mutex as TriedMutex};
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
    };
    pub(crate) use std::thread::{Thread, current};

    use std::cell::Cell;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    thread_local! {
        static LAST_SLOT: Cell<u32> = const { Cell::new(0) };
    }

    /// The number of the slot that this thread used last.
    #[inline]
    pub(crate) fn last_slot() -> u32 {
        LAST_SLOT.get()
    }

    /// Remembers it.
    #[inline]
    pub(crate) fn set_last_slot(number: u32) {
        LAST_SLOT.set(number);
    }

    /// Sets the flag as one step of the order that all threads agree on.
    #[inline]
    pub(crate) fn announce(flag: &AtomicBool) {
        flag.swap(true, Ordering::SeqCst);
    }

    /// Keeps the loads that follow behind the stores before.
    pub(crate) fn barrier() {
        fence(Ordering::SeqCst);
    }

    /// Lets others run for a moment; says that it makes sense to look again.
    pub(crate) fn linger() -> bool {
        std::thread::yield_now();
        true
    }

    /// Parks until unparked or until this much time is over.
    pub(crate) fn park(limit: Duration) {
        std::thread::park_timeout(limit);
    }

    #[cfg(feature = "batch")]
    pub(crate) use crossbeam_utils::sync::{Parker, Unparker};

    /// Where threads wait until an attempt of theirs succeeds.
    #[cfg(feature = "batch")]
    #[derive(Default)]
    pub(crate) struct Lounge {
        lock: Mutex<()>,
        bell: parking_lot::Condvar,
    }

    #[cfg(feature = "batch")]
    impl Lounge {
        /// Tries, and again whenever the bell rings, until the deadline.
        pub(crate) fn wait<R>(
            &self,
            deadline: Option<std::time::Instant>,
            mut attempt: impl FnMut() -> Option<R>,
        ) -> Option<R> {
            let mut guard = self.lock.lock();
            loop {
                if let Some(result) = attempt() {
                    return Some(result);
                }
                match deadline {
                    Some(deadline) if self.bell.wait_until(&mut guard, deadline).timed_out() => {
                        return attempt();
                    }
                    Some(_) => {}
                    None => self.bell.wait(&mut guard),
                }
            }
        }

        /// Has all of them try again. Whoever is between an attempt and its wait holds the
        /// lock, so it hears this.
        pub(crate) fn ring(&self) {
            drop(self.lock.lock());
            self.bell.notify_all();
        }
    }
}

#[cfg(millpond_loom)]
mod model {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
    };
    pub(crate) use loom::thread::{Thread, current};

    use std::sync::atomic::Ordering;
    use std::time::Duration;

    /// A hint only; without it each run of a model is the same.
    pub(crate) fn last_slot() -> u32 {
        0
    }

    pub(crate) fn set_last_slot(_: u32) {}

    /// loom takes sequentially consistent accesses for acquire-release ones and only
    /// knows such fences, so here stands the fence that the access amounts to.
    pub(crate) fn announce(flag: &AtomicBool) {
        flag.swap(true, Ordering::AcqRel);
        barrier();
    }

    pub(crate) fn barrier() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Looking again at once adds nothing that a model would not find anyway.
    pub(crate) fn linger() -> bool {
        false
    }

    /// loom knows no time: a park without an unpark is a lost wake-up, which is
    /// just what the models look for.
    pub(crate) fn park(_: Duration) {
        loom::thread::park();
    }

    /// `parking_lot`'s interface over loom's mutex.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            let guard = self.0.lock();
            guard.expect("no model panics while it holds a lock")
        }

        pub(crate) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// The same without time.
    #[cfg(feature = "batch")]
    pub(crate) struct Lounge {
        lock: loom::sync::Mutex<()>,
        bell: loom::sync::Condvar,
    }

    #[cfg(feature = "batch")]
    impl Default for Lounge {
        fn default() -> Self {
            Self {
                lock: loom::sync::Mutex::new(()),
                bell: loom::sync::Condvar::new(),
            }
        }
    }

    #[cfg(feature = "batch")]
    impl Lounge {
        pub(crate) fn wait<R>(
            &self,
            _: Option<std::time::Instant>,
            mut attempt: impl FnMut() -> Option<R>,
        ) -> Option<R> {
            let mut guard = self.lock.lock().expect("no model panics here");
            loop {
                if let Some(result) = attempt() {
                    return Some(result);
                }
                guard = self.bell.wait(guard).expect("no model panics here");
            }
        }

        pub(crate) fn ring(&self) {
            drop(self.lock.lock().expect("no model panics here"));
            self.bell.notify_all();
        }
    }

    /// A token for one thread that sleeps, as crossbeam's, which is trusted.
    #[cfg(feature = "batch")]
    pub(crate) struct Parker(Unparker);

    #[cfg(feature = "batch")]
    #[derive(Clone)]
    pub(crate) struct Unparker(Arc<(loom::sync::Mutex<bool>, loom::sync::Condvar)>);

    #[cfg(feature = "batch")]
    impl Parker {
        pub(crate) fn new() -> Self {
            let token = loom::sync::Mutex::new(false);
            Self(Unparker(Arc::new((token, loom::sync::Condvar::new()))))
        }

        pub(crate) fn unparker(&self) -> &Unparker {
            &self.0
        }

        pub(crate) fn park_timeout(&self, _: Duration) {
            let (token, bell) = &*self.0.0;
            let mut token = token.lock().expect("no model panics here");
            while !std::mem::take(&mut *token) {
                token = bell.wait(token).expect("no model panics here");
            }
        }
    }

    #[cfg(feature = "batch")]
    impl Unparker {
        pub(crate) fn unpark(&self) {
            let (token, bell) = &*self.0;
            *token.lock().expect("no model panics here") = true;
            bell.notify_one();
        }
    }

    /// One whose `try_lock` matters. The unlocking of loom's own is no step that loom
    /// puts others before, so its `try_lock` would almost never fail; the flag is such a
    /// step, and costs as many more interleavings.
    pub(crate) struct TriedMutex<T> {
        held: AtomicBool,
        data: Mutex<T>,
    }

    pub(crate) struct MutexGuard<'a, T> {
        held: &'a AtomicBool,
        data: loom::sync::MutexGuard<'a, T>,
    }

    impl<T> TriedMutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self {
                held: AtomicBool::new(false),
                data: Mutex::new(value),
            }
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.guard(self.data.lock())
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            if self.held.load(Ordering::Acquire) {
                return None;
            }
            self.data.try_lock().map(|data| self.guard(data))
        }

        fn guard<'a>(&'a self, data: loom::sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.held.store(true, Ordering::Release);
            MutexGuard {
                held: &self.held,
                data,
            }
        }
    }

    impl<T> std::ops::Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.data
        }
    }

    impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.data
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.held.store(false, Ordering::Release);
        }
    }

    /// What crossbeam's `AtomicCell<Option<Box<T>>>` is underneath: one atomic
    /// pointer, swapped with acquire-release.
    pub(crate) struct AtomicCell<T: Pointer>(
        loom::sync::atomic::AtomicUsize,
        std::marker::PhantomData<fn(T) -> T>,
    );

    /// Values that fit one word.
    pub(crate) trait Pointer {
        fn into_word(self) -> usize;
        fn from_word(word: usize) -> Self;
    }

    #[allow(unsafe_code)]
    impl<T> Pointer for Option<Box<T>> {
        fn into_word(self) -> usize {
            self.map_or(0, |boxed| Box::into_raw(boxed) as usize)
        }

        fn from_word(word: usize) -> Self {
            // SAFETY: every non-zero word came from `into_word`, and each is taken
            // out of the atomic by exactly one swap.
            (word != 0).then(|| unsafe { Box::from_raw(word as *mut T) })
        }
    }

    impl<T: Pointer> AtomicCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(
                loom::sync::atomic::AtomicUsize::new(value.into_word()),
                std::marker::PhantomData,
            )
        }

        pub(crate) fn swap(&self, value: T) -> T {
            T::from_word(
                self.0
                    .swap(value.into_word(), std::sync::atomic::Ordering::AcqRel),
            )
        }
    }

    impl<T: Pointer> Drop for AtomicCell<T> {
        fn drop(&mut self) {
            drop(T::from_word(self.0.with_mut(|word| std::mem::take(word))));
        }
    }
}

#[cfg(millpond_loom)]
pub(crate) use model::*;
#[cfg(not(millpond_loom))]
pub(crate) use real::*;
