//! What hostile clients of the exporter cost the program: leases of one thread while two hundred
//! of them are at it, against leases while there are none.
//!
//! The clients live on one thread of the same process, which sleeps most of the time: what is
//! compared is what the exporter makes of them, not what the attack itself takes from a machine
//! with few processors.

use std::error::Error;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use millpond::exporter::Exporter;
use millpond::{Hub, Pool};

use super::nothing::Nothing;
use super::options::Options;
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

const CLIENTS: usize = 200;
/// Between two bytes of a slow client.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let what = "metrics: leases of a thread, 200 hostile clients at the exporter";
    if !options.wants(what) {
        return Ok(());
    }
    let pool = Pool::builder().max_size(8).build(Nothing)?;
    let hub = Hub::new();
    hub.watch(&pool);
    let exporter = Exporter::builder(&hub).bind("127.0.0.1:0").start()?;
    let to = exporter.local_addr();
    let (attacking, stop, refused) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicU64::new(0),
    );
    let (rounds, span) = options.rounds(11, 400);
    let leases = |attacked: bool| {
        attacking.store(attacked, SeqCst);
        // Until they are there, or gone.
        thread::sleep(3 * PAUSE);
        leases_per_second(&pool, span)
    };
    let results = thread::scope(|scope| {
        scope.spawn(|| attack(to, &attacking, &stop, &refused));
        let mut sides: [Turn<'_, f64>; 2] = [Box::new(|| leases(true)), Box::new(|| leases(false))];
        let results = take_turns(rounds, &mut sides);
        stop.store(true, SeqCst);
        results
    });
    assert!(refused.load(SeqCst) > 0, "nobody was hostile");
    table.add(Row::compared(
        what,
        Unit::PerSecond,
        &results[0],
        "the same without clients",
        &results[1],
        Some(Goal::AtLeast(0.95)),
    ));
    Ok(())
}

fn leases_per_second(pool: &Pool<Nothing>, span: Duration) -> f64 {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < span {
        for _ in 0..256 {
            drop(pool.get().expect("idle"));
        }
        count += 256;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// Clients that send garbage, headers without end, one byte at a time, or nothing, and that never
/// read; who is closed comes again.
fn attack(to: SocketAddr, attacking: &AtomicBool, stop: &AtomicBool, refused: &AtomicU64) {
    let large = vec![b'A'; 1 << 16];
    let requests: [&[u8]; 5] = [
        b"G",
        b"",
        b"GET /history?span=86400 HTTP/1.1\r\n\r\n",
        b"\xff\xfe\0\x01 no such thing\r\n\r\n",
        &large,
    ];
    let mut clients: Vec<Option<TcpStream>> = (0..CLIENTS).map(|_| None).collect();
    while !stop.load(SeqCst) {
        thread::sleep(PAUSE);
        if !attacking.load(SeqCst) {
            clients.fill_with(|| None);
            continue;
        }
        for (client, request) in clients.iter_mut().zip(requests.iter().cycle()) {
            let open = client.take().or_else(|| {
                let stream = TcpStream::connect(to).ok()?;
                stream.set_nonblocking(true).ok()?;
                let _ = (&stream).write(request);
                Some(stream)
            });
            *client = open.filter(|mut stream| stream.write_all(b"x").is_ok());
            refused.fetch_add(u64::from(client.is_none()), SeqCst);
        }
    }
}
