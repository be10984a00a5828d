//! Every type with values that could go wrong: copied, they mean the same as alone.

use super::*;

/// Types with values of them.
type Kinds = Vec<(&'static str, Vec<SqlValue>)>;

/// Numbers and truth values.
fn numbers() -> Kinds {
    vec![
        ("int2", vec![(-32768).into(), "7".into(), SqlValue::Null]),
        ("int4", vec![i32::MAX.into(), " 7 ".into(), 2.0.into()]),
        ("int8", vec![i64::MIN.into(), i64::MAX.into(), 0.into()]),
        ("float4", vec![0.1.into(), f64::NAN.into(), 1e-40.into()]),
        (
            "float8",
            vec![
                0.1.into(),
                f64::NAN.into(),
                f64::INFINITY.into(),
                f64::NEG_INFINITY.into(),
                (-0.0).into(),
                5.into(),
            ],
        ),
        ("numeric", texts(&["1e-300", "NaN", "-Infinity", "0.10"])),
        (
            "numeric(12,2)",
            vec![1.into(), "12345678.905".into(), "NaN".into(), 0.1.into()],
        ),
        ("bool", vec![true.into(), "off".into(), SqlValue::Null]),
    ]
}

/// What may need quoting.
fn characters() -> Kinds {
    vec![
        (
            "text",
            texts(&[
                "",
                " ",
                "\\N",
                "\\.",
                "\\",
                "\\\\N",
                "NULL",
                "a\tb",
                "a\nb",
                "a\rb",
                "\r\n",
                "\\\n",
                "\\t\\x41\\101",
                "it's \"so\"",
                "{,}",
                "ä 𝄞 \u{85}\u{2028}\u{1}\u{7f}",
            ]),
        ),
        ("text", vec![7.into(), b"\xff\\".into(), SqlValue::Null]),
        (
            "text",
            vec![
                vec![Some("a\\\t\""), None].into(),
                "x".repeat(200_000).into(),
            ],
        ),
        ("varchar(5)", texts(&["abc", "ab   ", "ab         ", "\\N"])),
        ("char(5)", texts(&["abc", "", "abc         ", "\t"])),
        ("bpchar", texts(&["abc  ", ""])),
        ("\"char\"", texts(&["x", "", "\\", "\\200", "\n"])),
        ("name", vec!["x".repeat(80).into(), "ä".repeat(40).into()]),
        (
            "bytea",
            vec![
                b"\x00\xff\\'\n\t".into(),
                b"".into(),
                SqlValue::Null,
                "\\x01".into(),
                "a\\000\\\\".into(),
            ],
        ),
    ]
}

fn times_and_places() -> Kinds {
    vec![
        (
            "uuid",
            texts(&[
                "00112233-4455-6677-8899-aabbccddeeff",
                "{00112233445566778899AABBCCDDEEFF}",
            ]),
        ),
        (
            "timestamptz",
            texts(&[
                "2024-02-29 12:00:00.123456+02",
                "infinity",
                "03/02/2024 1:00 PST",
            ]),
        ),
        (
            "timestamptz(1)",
            texts(&["2024-02-29 12:00:00.949999999+02", "-infinity"]),
        ),
        (
            "timestamp(0)",
            texts(&[
                "2024-02-29 12:00:00.4999999",
                "2024-02-29 12:00:00.5",
                "13.12.99 0:00",
            ]),
        ),
        ("time(2)", texts(&["23:59:59.999", "12:00:00.125"])),
        ("timetz(0)", texts(&["23:59:59.5+03", "04:05 PM"])),
        ("date", texts(&["03/02/2024", "0044-03-15 BC", "infinity"])),
        (
            "interval",
            texts(&["1 mon -2 days 03:04:05.6", "-1", "P1Y2M"]),
        ),
        ("inet", texts(&["::1/64", "10.0.0.1"])),
        ("point", texts(&["(1,2)"])),
        ("box", texts(&["(3,4),(1,2)"])),
    ]
}

/// What has parts, or is something else below.
fn made_of_others() -> Kinds {
    vec![
        (
            "json",
            vec![
                serde_json::json!({"a\\": ["\"", null, "\n\t\\"]}).into(),
                "[1]\n".into(),
                "null".into(),
                5.into(),
            ],
        ),
        (
            "jsonb",
            vec![
                serde_json::json!({"a": "\\'\u{1}"}).into(),
                "[1,  2]".into(),
                SqlValue::Null,
            ],
        ),
        ("int4range", texts(&["[1,5)", "empty", "(,)"])),
        (
            "tstzmultirange",
            texts(&["{}", "{[\"2024-01-01 00:00Z\",)}"]),
        ),
        ("mood", texts(&["so, so", "it's \"fine\"", "\\N"])),
        ("positive", vec![7.into(), "8".into(), SqlValue::Null]),
        ("short", texts(&["abc", "ab   "])),
        ("\"Odd \"\"schema\".\"Odd type\"", texts(&["a\tb"])),
        (
            "int4[]",
            vec![
                vec![1, 2].into(),
                vec![Some(1), None].into(),
                "{}".into(),
                "[5:6]={7,8}".into(),
                vec![vec![1, 2], vec![3, 4]].into(),
                SqlValue::Null,
            ],
        ),
        (
            "text[]",
            vec![
                vec![
                    Some("a,b"),
                    Some("\"'\\\n"),
                    None,
                    Some("NULL"),
                    Some(""),
                    Some("\\N"),
                ]
                .into(),
            ],
        ),
        (
            "jsonb[]",
            vec![vec![serde_json::json!({"a": "\"x\\\""})].into()],
        ),
        ("mood[]", vec![vec!["so, so", "\\N"].into()]),
        ("tags", vec![vec!["a\\", "b"].into(), SqlValue::Null]),
        ("tsvector", texts(&["'a\\\\':1 'b'"])),
        ("bit(4)", texts(&["0101", "x5"])),
        ("varbit(5)", texts(&["101", ""])),
        ("money", vec!["$1,234.50".into(), "(3)".into(), 7.into()]),
        ("xml", texts(&["<a>\n</a>"])),
        ("regclass", texts(&["pg_class", "-"])),
    ]
}

/// Types whose values are merged, whatever their number.
fn merged_types() -> Kinds {
    vec![
        ("interval year", texts(&["1", "2 years 3 months"])),
        ("interval(0)", texts(&["1.5"])),
        ("varchar(3)[]", vec![vec!["abc", "a  "].into()]),
        ("pair", texts(&["(1,\"a,b\")", "(,)"])),
        ("positive[]", texts(&["{1,2}"])),
        ("guarded", texts(&["a"])),
        ("spans", texts(&["[1,5)"])),
    ]
}

const DEFINITIONS: [&str; 10] = [
    "CREATE SCHEMA \"Odd \"\"schema\"",
    "CREATE TYPE mood AS ENUM ('so, so', 'it''s \"fine\"', '\\N')",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE DOMAIN short AS varchar(5) CHECK (VALUE <> 'x')",
    "CREATE TYPE \"Odd \"\"schema\".\"Odd type\" AS ENUM ('a\tb')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN tags AS text[] CHECK (array_position(VALUE, 'bad') IS NULL)",
    "CREATE FUNCTION fine(text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END'",
    "CREATE DOMAIN guarded AS text CHECK (fine(VALUE))",
    "CREATE TYPE spans AS RANGE (subtype = int8)",
];

/// Compares what the INSERTs store one by one with what a large group of them does.
fn means_the_same(bed: &mut Bed<'_>, number: usize, kind: &str, values: &[SqlValue], trips: u64) {
    let [alone, together] = ["alone", "together"].map(|way| {
        let table = format!("{way}_{number}");
        bed.psql(&format!("CREATE TABLE {table} (n int, v {kind}, k int)"));
        table
    });
    let insert =
        |table: &str| Sql::new(format!("INSERT INTO {table} (k, v, n) VALUES ($3, $1, $2)"));
    let sql = insert(&alone);
    for (n, value) in values.iter().enumerate() {
        let operation = sql.clone().bind(value.clone()).bind(n).bind(0);
        let reply = bed
            .manager
            .execute(&mut bed.conn, &operation, Deadline::NEVER);
        assert_eq!(reply.expect(kind).affected(), 1);
    }
    // The long ones only a few times.
    let value = |n: usize| match &values[n % values.len()] {
        SqlValue::Text(text) if n > 50 && text.len() > 1000 => (0, &values[0]),
        value => (n % values.len(), value),
    };
    let sql = insert(&together);
    let operations: Vec<Sql> = (0..MANY as usize)
        .map(|k| {
            sql.clone()
                .bind(value(k).1.clone())
                .bind(value(k).0)
                .bind(k)
        })
        .collect();
    let (outcomes, taken) = bed.twice(&operations, &format!("TRUNCATE {together}"));
    assert_all_done(&outcomes);
    assert_eq!(taken, trips, "{kind}");
    let seen = format!(
        "SELECT count(*), count(DISTINCT t.k), count(*) FILTER (WHERE (t.v IS NULL) = (a.v IS NULL) \
         AND concat(t.v) = concat(a.v) AND pg_column_size(t.v) IS NOT DISTINCT FROM \
         pg_column_size(a.v)) FROM {together} t JOIN {alone} a USING (n)"
    );
    assert_eq!(bed.psql(&seen), format!("{MANY}|{MANY}|{MANY}"), "{kind}");
}

#[test]
fn every_type_means_the_same_alone_and_copied() {
    let server = Server::shared();
    let url = server.create_database("copy_types").expect("made");
    for setting in ["datestyle = 'SQL, DMY'", "timezone = 'Asia/Kathmandu'"] {
        let sql = format!("ALTER DATABASE copy_types SET {setting}");
        server.psql(&sql).expect("works");
    }
    let mut bed = Bed::at(server, "copy_types", &url, |config| config);
    for sql in DEFINITIONS {
        bed.psql(sql);
    }
    let copied = [
        numbers(),
        characters(),
        times_and_places(),
        made_of_others(),
    ]
    .concat();
    let copied = copied.into_iter().map(|kind| (kind, COPIED));
    let merged = merged_types().into_iter().map(|kind| (kind, MERGED));
    for (number, ((kind, values), trips)) in copied.chain(merged).enumerate() {
        means_the_same(&mut bed, number, kind, &values, trips);
    }
}

#[test]
fn a_database_of_another_encoding_stores_the_same() {
    let server = Server::shared();
    server
        .psql("CREATE DATABASE copy_latin ENCODING 'LATIN1' TEMPLATE template0")
        .expect("made");
    let url = server.url_of("copy_latin");
    let mut bed = Bed::at(server, "copy_latin", &url, |config| config);
    let values = texts(&["ä", "\u{a0}\\\u{ff}"]);
    means_the_same(&mut bed, 0, "text", &values, COPIED);
    assert_eq!(bed.psql("SELECT min(octet_length(v)) FROM together_0"), "1");
    // What the encoding has not is refused, alone.
    let insert = Sql::new("INSERT INTO together_0 (v) VALUES ($1)");
    let bind = |n| insert.clone().bind(if n == 4321 { "𝄞" } else { "a" });
    let operations: Vec<Sql> = (0..MANY).map(bind).collect();
    let (outcomes, _) = bed.batch(&operations);
    let refused = outcomes.iter().position(|outcome| !outcome.is_done());
    let done = outcomes.iter().filter(|outcome| outcome.is_done());
    assert_eq!((refused, done.count()), (Some(4321), outcomes.len() - 1));
}
