use std::fs;
use std::path::Path;

use super::sampler::Watch;
use super::*;

#[test]
fn shedding_starts_with_the_second_sample_and_has_some_slack() {
    let mut watch = Watch::default();
    let mut short = false;
    let mut after = |used: f64| {
        short = watch.judge(short, used, Some(100.0));
        short
    };
    // One peak is none.
    assert_eq!([120.0, 50.0, 120.0].map(&mut after), [false; 3]);
    assert!(after(120.0));
    // Just below the limit is not enough to stop.
    assert_eq!([95.0, 95.0, 95.0].map(&mut after), [true; 3]);
    assert_eq!([80.0, 80.0, 80.0].map(&mut after), [true, false, false]);
    // Without a limit nothing is short.
    assert!(!watch.judge(true, 1e9, None));
}

#[test]
fn limits_of_control_groups_are_the_least_of_all_around() {
    let root = std::env::temp_dir().join(format!("millpond-cgroup-{}", std::process::id()));
    let inner = root.join("app/worker");
    fs::create_dir_all(&inner).expect("creates");
    let write = |folder: &Path, name: &str, text: &str| {
        fs::write(folder.join(name), text).expect("writes");
    };
    write(&inner, "memory.max", "max\n");
    write(&inner, "memory.high", "900000000\n");
    write(&root.join("app"), "memory.max", "800000000\n");
    write(&inner, "cpu.max", "150000 100000\n");
    write(&root, "cpu.max", "max 100000\n");
    let own = "1:name=systemd:/x\n0::/app/worker\n";
    let groups = cgroup::folders(&root, own);
    assert_eq!(groups.len(), 3);
    assert_eq!(cgroup::memory_limit_of(&groups), Some(800_000_000));
    assert_eq!(cgroup::processors_of(&groups), Some(1.5));
    fs::remove_dir_all(&root).expect("removes");
    assert_eq!(cgroup::memory_limit_of(&groups), None);
    // Version 1 only.
    assert!(cgroup::folders(&root, "4:memory:/docker/x\n").is_empty());
}

#[test]
fn wrong_limits_are_named() {
    let vars = |pairs: &'static [(&str, &str)]| {
        Vars::from_lookup(move |name| {
            let found = pairs.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    };
    let good = vars(&[
        ("PERFORMANCE_MEMORY_LIMIT_MB", "1024"),
        ("PERFORMANCE_CPU_LIMIT_PERCENT", "80.0"),
    ]);
    let limits = good.read(Limits::from_vars).expect("good");
    assert_eq!(limits, Limits::new().memory_mib(1024).cpu_percent(80.0));
    let bad = vars(&[
        ("PERFORMANCE_MEMORY_LIMIT_MB", "0"),
        ("PERFORMANCE_CPU_LIMIT_PERCENT", "NaN"),
    ]);
    let message = bad.read(Limits::from_vars).expect_err("bad").to_string();
    assert!(
        message.contains("PERFORMANCE_MEMORY_LIMIT_MB is `0`"),
        "{message}"
    );
    assert!(
        message.contains("PERFORMANCE_CPU_LIMIT_PERCENT is `NaN`"),
        "{message}"
    );
}
