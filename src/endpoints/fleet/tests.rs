use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::Deadline;
use crate::operation::NoOperation;

/// A server that is there.
struct Server(&'static str);

impl r2d2::ManageConnection for Server {
    type Connection = ();
    type Error = io::Error;

    fn connect(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

impl Backend for Server {
    const NAME: &'static str = "server";

    type Operation = NoOperation;

    type Reply = ();

    fn endpoint(&self) -> String {
        self.0.to_owned()
    }

    fn classify(_: &io::Error) -> ErrorKind {
        ErrorKind::Other
    }

    fn execute(&self, (): &mut (), operation: &NoOperation, _: Deadline) -> Result<(), Error> {
        match *operation {}
    }
}

#[test]
fn observers_that_are_gone_are_forgotten() {
    let fleet = Fleet::builder().endpoint(Server("a"));
    let fleet = fleet.build().expect("connects");
    let told = Arc::new(AtomicUsize::new(0));
    let observe = || {
        let (who, told) = (Arc::new(()), Arc::clone(&told));
        fleet.observe(&who, move |_, _, _| {
            told.fetch_add(1, SeqCst);
        });
        who
    };
    let count = || fleet.0.observers.lock().len();
    for _ in 0..100 {
        drop(observe());
    }
    assert!(count() <= 1, "{} observers", count());
    let (stays, goes) = (observe(), observe());
    assert_eq!((count(), told.load(SeqCst)), (2, 102));
    drop(goes);
    fleet.add(Server("b")).expect("it is new");
    assert_eq!((count(), told.load(SeqCst)), (1, 103));
    drop(stays);
}
