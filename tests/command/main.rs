//! The command `millpond` as an operator meets it: the built program, a clean environment, real
//! servers, and what it prints.

mod check;
mod mistakes;
mod sealing;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// In every password and token of these tests, the right ones and the wrong ones.
const MARK: &str = testbed::MARK;

/// What the program printed, and how it ended.
struct Ran {
    out: String,
    err: String,
    code: i32,
}

impl Ran {
    #[track_caller]
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        for text in [&out, &err] {
            testbed::keep("printed", text);
            assert!(!testbed::bears_mark(text), "a secret was printed:\n{text}");
            assert!(!text.contains('\x1b'), "colours in a pipe:\n{text}");
        }
        let code = output.status.code().expect("ended by itself");
        Self { out, err, code }
    }

    /// What was printed, without the breaks where lines were full.
    fn words(&self) -> String {
        self.out.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn says(&self, parts: &[&str]) {
        let text = self.words();
        for part in parts {
            assert!(text.contains(part), "no `{part}` in\n{}", self.out);
        }
    }

    #[track_caller]
    fn complains(&self, why: &str) {
        let text = self.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(why), "no `{why}` in\n{}", self.err);
    }

    #[track_caller]
    fn ends_with(&self, code: i32) {
        assert_eq!(self.code, code, "\n{}\n{}", self.out, self.err);
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}:\n{}", self.out))
    }
}

/// Runs the command, and looks at what holds for whatever it prints.
#[track_caller]
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    command.args(arguments).env_clear();
    command.envs(variables.iter().copied());
    let ran = Ran::of(&command.output().expect("runs"));
    if !arguments.contains(&"--json") {
        let long = ran.out.lines().find(|line| line.chars().count() > 100);
        assert_eq!(long, None, "a line that is too long");
    }
    ran
}

/// The same, with this on its standard input.
#[track_caller]
fn run_with(input: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    command.args(arguments).env_clear();
    command.envs(variables.iter().copied());
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may have ended without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    Ran::of(&child.wait_with_output().expect("ended"))
}

/// A file that is removed when the test ends.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("millpond-command-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("a temporary file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn four_urls() -> [(&'static str, String); 5] {
    [
        ("DATABASE_URL", testbed::Postgres::shared().url()),
        ("REDIS_URL", testbed::Redis::shared().url()),
        ("MONGODB_URI", testbed::Mongo::shared().uri()),
        ("HTTP_ENABLED", "true".to_owned()),
        ("HTTP_BASE_URL", testbed::Nginx::shared().url()),
    ]
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let all = variables.iter();
    all.map(|(name, value)| (*name, &**value)).collect()
}
