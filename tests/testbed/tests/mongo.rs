//! MongoDB starts and answers.

use testbed::Mongo;

#[test]
fn starts_and_answers() {
    let mongo = Mongo::start().expect("MongoDB");
    assert_eq!(
        mongo.uri(),
        format!("mongodb://127.0.0.1:{}/", mongo.port())
    );
}
