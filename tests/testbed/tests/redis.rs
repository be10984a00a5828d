//! Redis starts and answers.

use testbed::Redis;

#[test]
fn starts_and_answers() {
    let redis = Redis::start().expect("Redis");
    assert_eq!(redis.cli(&["PING"]).expect("a reply"), "PONG");
}
