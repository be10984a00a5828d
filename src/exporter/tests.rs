use std::net::SocketAddr;

use super::columns::Columns;
use super::request::{Method, Parsed, Request, parse};
use super::{Exporter, ExporterBuilder};
use crate::config::Vars;
use crate::error::{Error, ErrorKind};
use crate::health::Health;
use crate::hub::{Hub, Point, PoolPoint};

fn from(variables: &[(&str, &str)]) -> Result<ExporterBuilder, Error> {
    let lookup = |name: &str| {
        let mut all = variables.iter();
        all.find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    };
    Vars::from_lookup(lookup).read(|vars| Exporter::builder(&Hub::new()).read(vars))
}

fn whole(head: &str) -> Request {
    match parse(head.as_bytes()) {
        Parsed::Whole(request) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_environment_sets_each_setting() {
    let builder = from(&[
        ("EXPORTER_BIND", "0.0.0.0:0"),
        ("EXPORTER_TOKEN", "a-token"),
        ("EXPORTER_ALLOW_REMOTE", "true"),
    ]);
    let builder = builder.expect("good settings");
    assert_eq!(builder.bind, "0.0.0.0:0");
    assert!(builder.allow_remote);
    assert_eq!(builder.token.as_ref().expect("a token").expose(), "a-token");
    assert!(!format!("{builder:?}").contains("a-token"));
    let unset = from(&[]).expect("good settings");
    assert_eq!(unset.bind, "127.0.0.1:9464");
    assert!(!unset.allow_remote && unset.token.is_none());
}

#[test]
fn a_mistake_names_its_variable() {
    let mistakes: [(&[_], _); 4] = [
        (
            &[("EXPORTER_ALLOW_REMOTE", "perhaps")],
            "EXPORTER_ALLOW_REMOTE",
        ),
        (&[("EXPORTER_BIND", "9464")], "EXPORTER_BIND"),
        (
            &[("EXPORTER_BIND", "0.0.0.0:0")],
            "EXPORTER_ALLOW_REMOTE=true",
        ),
        (&[("EXPORTER_TOKEN", "with a space")], "EXPORTER_TOKEN"),
    ];
    for (variables, named) in mistakes {
        let error = from(variables).and_then(ExporterBuilder::start);
        let error = error.map(|_| ()).expect_err(named);
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(named), "{error}");
        assert!(!error.to_string().contains("with a space"), "{error}");
    }
}

#[test]
fn the_head_of_a_request_is_understood_however_it_is_cut() {
    let head = "GET /history?span=60&pool=3 HTTP/1.1\r\nHost: localhost:9464\r\n\
                AUTHORIZATION: bearer  a-token \r\n\r\n";
    let request = whole(head);
    assert_eq!(request.method, Method::Get);
    assert_eq!(request.path, "/history");
    assert_eq!(request.number("span"), Some(60));
    assert_eq!(request.number("pool"), Some(3));
    assert_eq!(request.number("poo"), None);
    assert_eq!(request.token.as_deref(), Some("a-token"));
    for end in 0..head.len() {
        assert_eq!(parse(&head.as_bytes()[..end]), Parsed::Part, "{end}");
    }
    assert_eq!(whole("HEAD / HTTP/1.0\r\n\r\n").method, Method::Head);
    assert_eq!(whole("PUT / HTTP/1.1\r\n\r\n").method, Method::Other);
    assert_eq!(parse(b"\x16\x03\x01\x02\x00"), Parsed::Nonsense);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
    assert_eq!(parse(many.as_bytes()), Parsed::TooLarge);
}

#[test]
fn only_names_that_nobody_else_can_give_this_machine_mean_it() {
    let means_us =
        |host: &str| whole(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).means_this_machine();
    for host in [
        "localhost",
        "LOCALHOST:80",
        "127.0.0.1:9464",
        "[::1]:9464",
        "[::1]",
    ] {
        assert!(means_us(host), "{host}");
    }
    for host in [
        "rebound.example",
        "localhost.example:80",
        "127.0.0.1.example",
        "",
        "[oh",
    ] {
        assert!(!means_us(host), "{host}");
    }
    assert!(whole("GET / HTTP/1.0\r\n\r\n").means_this_machine());
}

#[test]
fn a_long_history_becomes_few_rows_with_the_sums_and_the_worst_kept() {
    let point = |number: u16| -> Point {
        let pool = PoolPoint {
            used: number % 2,
            idle: 0,
            waiting: 0,
            leases: 0,
            succeeded: u32::from(number != 1999) * 10,
            failed: 0,
            timeouts: 0,
            created: 0,
            connect_failures: 0,
            p50: 0.0,
            p95: 0.0,
            p99: f32::from(number),
            max: 0.0,
            wait_p99: 0.0,
            use_p99: 0.0,
            health: Health::Up,
        };
        Point {
            at_ms: u64::from(number) * 1000,
            seconds: 1.0,
            // The second pool came later.
            pools: if number < 1000 {
                [pool].into()
            } else {
                [pool, pool].into()
            },
            #[cfg(feature = "batch")]
            batches: [].into(),
            memory_mib: 1.0,
            cpu_percent: 50.0,
        }
    };
    let points: Vec<_> = (0..2000).map(point).collect();
    let columns = serde_json::to_value(Columns::new(&points, None)).expect("JSON");
    let column = |pool: usize, name: &str| {
        columns["pools"][pool][name]
            .as_array()
            .expect("a column")
            .clone()
    };
    let rows = columns["at_ms"].as_array().expect("times").len();
    assert_eq!(rows, 500, "four points each");
    assert_eq!(columns["at_ms"][0], 3000);
    for (pool, name) in [(0, "used"), (1, "p99"), (1, "succeeded")] {
        assert_eq!(column(pool, name).len(), rows);
    }
    assert_eq!(column(0, "used")[0], 0.5);
    assert_eq!(column(0, "succeeded")[0], 10.0);
    assert_eq!(column(0, "succeeded")[499], 7.5);
    assert_eq!(column(0, "p99")[0], 3.0, "the worst");
    assert_eq!(column(0, "p99")[499], 1998.0, "of those with operations");
    assert!(column(1, "used")[249].is_null(), "not yet there");
    assert_eq!(column(1, "used")[250], 0.5);
    let one = serde_json::to_value(Columns::new(&points, Some(1))).expect("JSON");
    assert_eq!(one["pools"].as_array().expect("pools").len(), 1);
    assert_eq!(one["pools"][0]["number"], 1);
    let none = serde_json::to_value(Columns::new(&[], None)).expect("JSON");
    assert_eq!(none["at_ms"].as_array().expect("times").len(), 0);
}

#[test]
fn it_listens_where_it_was_told_and_says_what_is_in_the_way() {
    let first = Exporter::builder(&Hub::new()).bind("127.0.0.1:0").start();
    let first = first.expect("starts");
    let taken: SocketAddr = first.local_addr();
    let error = Exporter::builder(&Hub::new())
        .bind(taken.to_string())
        .start();
    let error = error.map(|_| ()).expect_err("taken");
    assert!(error.to_string().contains("is in use"), "{error}");
}
