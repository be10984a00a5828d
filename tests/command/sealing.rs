//! `seal` and `audit verify`.

use millpond::audit::Audit;
use millpond::{Pool, Redis, RedisCommand, RedisConfig};

use super::{File, MARK, run, run_with};

#[test]
fn an_audit_log_is_verified() {
    let file = File::new("audit.jsonl", "");
    let long = format!("{MARK}, which is long enough");
    let key = File::new("audit.key", &long);
    let other = File::new("other.key", "another key than that one");
    std::fs::remove_file(&file.0).expect("there");
    let audit = Audit::builder(&file.0).key(&*long).install();
    let audit = audit.expect("a log");
    let config = RedisConfig::from_url(&testbed::Redis::shared().url()).expect("a good URL");
    let pool = Pool::new(Redis::new(config).expect("good settings")).expect("opens");
    for _ in 0..3 {
        pool.execute(RedisCommand::new("PING")).expect("answers");
    }
    drop(audit);

    let verify = |key: &File| {
        let arguments = ["audit", "verify", file.path(), "--key-file", key.path()];
        run(&arguments, &[])
    };
    let good = verify(&key);
    good.ends_with(0);
    good.says(&["lines in 1 file are right", "The log is as it was written."]);
    let by_variable = [("AUDIT_KEY_FILE", key.path())];
    run(&["audit", "verify", file.path()], &by_variable).ends_with(0);
    let sealing_key = run(&["seal", "--new-key"], &[]).out;
    let sealed_with = ("SECURITY_ENCRYPTION_KEY", sealing_key.trim_end());
    let sealed = run_with(&long, &["seal"], &[sealed_with]).out;
    let by_sealed = [sealed_with, ("AUDIT_KEY", sealed.trim_end())];
    run(&["audit", "verify", file.path()], &by_sealed).ends_with(0);
    let unopened = run(&["audit", "verify", file.path()], &by_sealed[1..]);
    unopened.ends_with(2);
    unopened.complains("SECURITY_ENCRYPTION_KEY");
    verify(&other).ends_with(1);
    run(&["audit", "verify", file.path()], &[]).ends_with(1);

    let text = std::fs::read_to_string(&file.0).expect("a log");
    let lines: Vec<_> = text.lines().collect();
    let without_the_second = [&lines[..1], &lines[2..]].concat().join("\n") + "\n";
    for changed in [text.replacen("PING", "PONG", 1), without_the_second] {
        assert_ne!(changed, text);
        std::fs::write(&file.0, changed).expect("written");
        let ran = verify(&key);
        ran.ends_with(1);
        ran.says(&["line 2:", "The log is not as it was written."]);
    }
    let json = run(&["audit", "verify", "--json", file.path()], &by_variable);
    let json = json.json();
    assert_eq!(json["verdict"], "failed");
    assert_eq!(json["fault"]["line"], 2);

    let missing = run(&["audit", "verify", "/nowhere/audit.jsonl"], &[]);
    missing.ends_with(2);
    missing.complains("/nowhere/audit.jsonl cannot be read");
}

#[test]
fn what_is_sealed_opens_a_server() {
    let key = run(&["seal", "--new-key"], &[]);
    key.ends_with(0);
    assert_ne!(key.out, run(&["seal", "--new-key"], &[]).out);
    let key = File::new("key", &key.out);
    let variables = [("SECURITY_ENCRYPTION_KEY_FILE", key.path())];
    let sealed = run_with(&format!("{MARK}\n"), &["seal"], &variables);
    sealed.ends_with(0);
    assert!(sealed.out.starts_with("sealed:v1:"), "{}", sealed.out);

    let redis = testbed::Redis::builder().password(MARK).start();
    let redis = redis.expect("a server");
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let mut variables = vec![
        ("SECURITY_ENCRYPTION_KEY_FILE", key.path()),
        ("REDIS_URL", &url),
        ("REDIS_PASSWORD", sealed.out.trim_end()),
    ];
    run(&["check"], &variables).ends_with(0);
    run(&["config"], &variables).ends_with(0);
    variables.remove(0);
    let ran = run(&["check"], &variables);
    ran.ends_with(2);
    ran.says(&["REDIS_PASSWORD is `***`", "SECURITY_ENCRYPTION_KEY"]);
}

#[test]
fn what_cannot_be_sealed_is_told() {
    let without = run_with(MARK, &["seal"], &[]);
    without.ends_with(2);
    without.complains("`millpond seal --new-key > FILE` makes one");
    let bad = [("SECURITY_ENCRYPTION_KEY", MARK)];
    let bad = run_with(MARK, &["seal"], &bad);
    bad.ends_with(2);
    bad.complains("a key of 32 bytes");
    let key = run(&["seal", "--new-key"], &[]);
    let key = [("SECURITY_ENCRYPTION_KEY", key.out.trim_end())];
    for (input, why) in [("", "empty"), ("\n", "empty"), ("a\nb\n", "several lines")] {
        let ran = run_with(input, &["seal"], &key);
        ran.ends_with(2);
        ran.complains(why);
        assert_eq!(ran.out, "");
    }
}
