//! A manager of your own: here for a line protocol over TCP. The pool does the rest:
//! it connects in the background, checks what was idle, and tells what went wrong.
//!
//! `cargo run --example custom_manager`

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use millpond::backend::{self, Backend};
use millpond::{ConnectFailure, Deadline, ErrorKind, ManageConnection, NoOperation, Pool};

/// Makes connections to an upper-casing service.
struct Upper {
    address: SocketAddr,
}

impl Upper {
    fn new(address: SocketAddr) -> Self {
        // From now on every pool over this type knows the `Backend` below.
        backend::adopt::<Self>();
        Self { address }
    }
}

/// One connection: what a lease derefs to.
struct Line {
    stream: BufReader<TcpStream>,
    broken: bool,
}

impl Line {
    fn upper(&mut self, text: &str) -> io::Result<String> {
        // An error in between leaves half an answer on the wire.
        self.broken = true;
        self.stream
            .get_mut()
            .write_all(format!("{text}\n").as_bytes())?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.broken = false;
        Ok(answer.trim_end().to_owned())
    }
}

impl ManageConnection for Upper {
    type Connection = Line;
    type Error = io::Error;

    fn connect(&self) -> io::Result<Line> {
        let limit = Duration::from_secs(3);
        let stream = TcpStream::connect_timeout(&self.address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Line {
            stream: BufReader::new(stream),
            broken: false,
        })
    }

    fn is_valid(&self, line: &mut Line) -> io::Result<()> {
        line.upper("ping").map(|_| ())
    }

    fn has_broken(&self, line: &mut Line) -> bool {
        line.broken
    }
}

/// Optional: what the pool may know beyond r2d2's trait.
impl Backend for Upper {
    const NAME: &'static str = "upper";

    type Operation = NoOperation;

    type Reply = ();

    fn execute(
        &self,
        _: &mut Line,
        operation: &NoOperation,
        _: Deadline,
    ) -> Result<(), millpond::Error> {
        match *operation {}
    }

    fn endpoint(&self) -> String {
        self.address.to_string()
    }

    fn classify(error: &io::Error) -> ErrorKind {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorKind::Connect(ConnectFailure::Refused),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                ErrorKind::Connect(ConnectFailure::Timeout)
            }
            _ => ErrorKind::ConnectionLost,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder().max_size(2).build(Upper::new(serve()?))?;
    std::thread::scope(|scope| {
        for number in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let mut line = pool.get().expect("a connection");
                println!(
                    "{}",
                    line.upper(&format!("thread {number} says hello"))
                        .expect("works")
                );
            });
        }
    });
    println!("{}", pool.state());

    let port = testbed::refused_port();
    let nowhere = Upper::new(SocketAddr::from(([127, 0, 0, 1], port)));
    let pool = Pool::builder()
        .connection_timeout(Duration::from_millis(300))
        .build(nowhere);
    println!("{}", pool.err().ok_or("nothing listens there")?);
    Ok(())
}

/// The service, for the sake of the example in the same process.
fn serve() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> io::Result<()> {
                let mut writer = stream.try_clone()?;
                for line in BufReader::new(stream).lines() {
                    writer.write_all(format!("{}\n", line?.to_uppercase()).as_bytes())?;
                }
                Ok(())
            });
        }
    });
    Ok(address)
}
