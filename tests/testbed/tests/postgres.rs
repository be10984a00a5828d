//! `PostgreSQL` starts, answers and suffers as told.

use testbed::Postgres;

#[test]
fn starts_and_answers() {
    let postgres = Postgres::start().expect("PostgreSQL");
    assert_eq!(postgres.psql("SELECT 1, 'x'").expect("rows"), "1|x");
    assert_eq!(postgres.host(), "127.0.0.1");
}
