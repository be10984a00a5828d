//! `BATCH_*`.

use std::time::{Duration, Instant};

use millpond::batch::{Batch, Flush, WhenFull};
use millpond::{Config, Postgres, Sql};

use super::{config, hub};

fn batch(
    settings: Config,
    change: impl FnOnce(
        millpond::batch::BatchBuilder<Postgres>,
    ) -> millpond::batch::BatchBuilder<Postgres>,
) -> Batch<Postgres> {
    let url = testbed::Postgres::shared().url();
    let hub = hub(&settings.set("DATABASE_URL", url));
    change(hub.batch("postgres").unwrap()).build().unwrap()
}

fn slow() -> Sql {
    Sql::new("SELECT pg_sleep(0.3)")
}

#[test]
pub(super) fn size_and_timeout() {
    let settings = config().set("BATCH_SIZE", 5).set("BATCH_TIMEOUT", 0.4);
    let batch = batch(settings, |batch| batch.flush(Flush::WhenDue));
    let begun = Instant::now();
    let tickets: Vec<_> = (0..7)
        .map(|n| batch.submit(Sql::new("SELECT $1::int").bind(n)).unwrap())
        .collect();
    for ticket in tickets {
        assert!(matches!(ticket.wait(), millpond::Outcome::Done(_)));
    }
    let took = begun.elapsed();
    let metrics = batch.metrics();
    assert_eq!(metrics.largest_group, 5, "{metrics}");
    // The other two waited until the time was over.
    assert_eq!(
        (metrics.flushed.full, metrics.flushed.due),
        (1, 1),
        "{metrics}"
    );
    assert!(
        took >= Duration::from_millis(400) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[test]
pub(super) fn max_operations() {
    let settings = config()
        .set("BATCH_MAX_OPERATIONS", 3)
        .set("BATCH_SIZE", 1)
        .set("BATCH_PARALLEL_WORKERS", 1);
    let batch = batch(settings, |batch| batch.when_full(WhenFull::Refuse));
    let taken = (0..20).filter(|_| batch.submit(slow()).is_ok()).count();
    assert!((3..=5).contains(&taken), "{taken} were taken");
}

#[test]
pub(super) fn parallel_workers() {
    let most = |workers: u32| {
        let settings = config()
            .set("BATCH_SIZE", 1)
            .set("BATCH_PARALLEL_WORKERS", workers);
        let batch = batch(settings, |batch| batch);
        let tickets: Vec<_> = (0..4).map(|_| batch.submit(slow()).unwrap()).collect();
        let mut most = 0;
        while batch.metrics().done < 4 {
            most = most.max(batch.metrics().running);
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(tickets);
        most
    };
    assert_eq!(most(1), 1);
    assert!(most(3) > 1);
}
