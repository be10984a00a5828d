//! Server processes: started so that they cannot outlive us, and stopped,
//! frozen, killed and restarted at will.
//!
//! The kernel signals a child when the *thread* that started it ends
//! (`PR_SET_PDEATHSIG`). A test's thread ends long before a server kept in a
//! static should. So one thread, the *spawner*, starts them all and never ends:
//! its death is the process's death, by whatever cause, SIGKILL included. The
//! death signal is set by `setpriv` after the change of user, which clears it.
//!
//! A server's processes are its main one and all its descendants. PostgreSQL's
//! backends each lead a session of their own, so signals to the process group or
//! to the postmaster alone would miss them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Context, Error};
use crate::locate::Program;
use crate::user::User;

/// How long a server may take to get ready, on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long it may take to stop when asked, before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How often we look.
const POLL: Duration = Duration::from_millis(2);
/// How long a process may take to notice that it is to stop.
const SIGNAL_DEADLINE: Duration = Duration::from_millis(200);

/// Asks whether the server answers; if not, why not.
pub(crate) type Ready = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// How to start a server, again and again.
pub(crate) struct Launch {
    /// As users call it, for messages.
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    pub(crate) args: Vec<OsString>,
    /// Its working folder; its output goes to `log` there.
    pub(crate) folder: PathBuf,
    pub(crate) user: Option<User>,
    /// What stops it in an orderly way.
    pub(crate) stop: Signal,
    /// What makes it go at once, on drop and when we die.
    pub(crate) quit: Signal,
    pub(crate) ready: Ready,
}

/// A running, frozen or stopped server. Killed on drop.
pub(crate) struct Daemon {
    launch: Launch,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    frozen: bool,
}

impl Daemon {
    /// Starts the server and waits until it answers.
    pub(crate) fn start(launch: Launch) -> Result<Self, Error> {
        crate::trace::trace();
        let daemon = Self {
            launch,
            state: Mutex::default(),
        };
        daemon.launch(&mut daemon.lock())?;
        Ok(daemon)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.lock().child.as_ref().map(Child::id)
    }

    /// SIGSTOP to every process of the server.
    pub(crate) fn freeze(&self) {
        let mut state = self.lock();
        if let Some(child) = &state.child {
            // Parents first: a stopped one starts no more children.
            stop_family(child.id());
            state.frozen = true;
        }
    }

    /// SIGCONT to every process of the server.
    pub(crate) fn thaw(&self) {
        Self::thaw_locked(&mut self.lock());
    }

    fn thaw_locked(state: &mut State) {
        if let Some(child) = &state.child {
            for pid in family(child.id()).into_iter().rev() {
                send(pid, Signal::CONT);
            }
        }
        state.frozen = false;
    }

    /// SIGKILL to every process of the server; returns when all are gone.
    pub(crate) fn kill(&self) {
        Self::kill_locked(&mut self.lock());
    }

    fn kill_locked(state: &mut State) {
        state.frozen = false;
        let Some(mut child) = state.child.take() else {
            return;
        };
        let pids = stop_family(child.id());
        for &pid in pids.iter().rev() {
            send(pid, Signal::KILL);
        }
        let _ = child.wait();
        let deadline = Instant::now() + STOP_DEADLINE;
        while pids.iter().any(|&pid| is_alive(pid)) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
    }

    /// Stops the server in an orderly way; kills it if it does not go.
    pub(crate) fn stop(&self) {
        Self::stop_locked(&mut self.lock(), self.launch.stop);
    }

    fn stop_locked(state: &mut State, signal: Signal) {
        if state.frozen {
            Self::thaw_locked(state);
        }
        let Some(child) = &mut state.child else {
            return;
        };
        send(child.id(), signal);
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if matches!(child.try_wait(), Ok(Some(_))) {
                state.child = None;
                return;
            }
            thread::sleep(POLL);
        }
        Self::kill_locked(state);
    }

    /// Starts the server again, with the same command line, after stopping it if
    /// it still runs.
    pub(crate) fn restart(&self) -> Result<(), Error> {
        let mut state = self.lock();
        Self::stop_locked(&mut state, self.launch.stop);
        self.launch(&mut state)
    }

    /// Makes the server go at once, leaving nothing behind.
    pub(crate) fn quit(&self) {
        let mut state = self.lock();
        if state.frozen || self.launch.quit == Signal::KILL {
            Self::kill_locked(&mut state);
        } else {
            Self::stop_locked(&mut state, self.launch.quit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, state: &mut State) -> Result<(), Error> {
        let launch = &self.launch;
        let log_path = launch.folder.join("log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .context(|| format!("open {}", log_path.display()))?;
        let log_start = log.metadata().map_or(0, |meta| meta.len());
        let errors = log
            .try_clone()
            .context(|| format!("open {}", log_path.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", signal_name(launch.quit), "--"])
            .arg(&launch.program.path)
            .args(&launch.args)
            .current_dir(&launch.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C is for the test process; servers follow its death.
            .process_group(0);
        launch.program.prepare(&mut command);
        become_user(&mut command, launch.user);
        let child = spawn(command).context(|| {
            format!(
                "start {} through `setpriv` (Debian package util-linux)",
                launch.name
            )
        })?;
        state.child = Some(child);
        let result = self.await_ready(state, &log_path, log_start);
        if result.is_err() {
            Self::kill_locked(state);
        }
        result
    }

    fn await_ready(&self, state: &mut State, log: &Path, log_start: u64) -> Result<(), Error> {
        let started = Instant::now();
        let fail = |why: String| {
            Err(Error::new(format!(
                "{} {why}; its log:\n{}",
                self.launch.name,
                tail(log, log_start)
            )))
        };
        loop {
            if let Some(child) = &mut state.child
                && let Ok(Some(status)) = child.try_wait()
            {
                state.child = None;
                return fail(format!("did not start ({status})"));
            }
            match (self.launch.ready)() {
                Ok(()) => return Ok(()),
                Err(why) if started.elapsed() > START_DEADLINE => {
                    return fail(format!("was not ready within a minute ({why})"));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.quit();
    }
}

/// Makes a command run as another user.
pub(crate) fn become_user(command: &mut Command, user: Option<User>) {
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
}

/// Runs a tool to its end; its output, or an error with its error output.
pub(crate) fn run(mut command: Command, what: &str) -> Result<String, Error> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .context(|| format!("run {what}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(Error::new(format!(
        "{what} failed ({}):\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )))
}

fn signal_name(signal: Signal) -> &'static str {
    if signal == Signal::QUIT {
        "QUIT"
    } else {
        "KILL"
    }
}

/// A command to start, and where to send the child.
type Order = (Command, Sender<io::Result<Child>>);

/// Starts the command from the thread that lives as long as the process.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the spawner thread is gone");
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The asker waits for it, so the receiver is there.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (reply, answer) = channel();
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, reply))
        .map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        // It may have gone by itself in the meantime.
        let _ = kill_process(pid, signal);
    }
}

/// The process and its descendants, parents before children.
fn family(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = pids()
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            all.iter()
                .filter(|(_, its)| *its == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found
}

/// Stops the whole family, also those born while we look, and returns it.
fn stop_family(root: u32) -> Vec<u32> {
    let mut stopped = Vec::new();
    loop {
        let members = family(root);
        let before = stopped.len();
        for pid in members {
            if !stopped.contains(&pid) {
                send(pid, Signal::STOP);
                wait_until_stopped(pid);
                stopped.push(pid);
            }
        }
        if stopped.len() == before {
            return stopped;
        }
    }
}

/// Until the signal has arrived: a process on another processor may start one more child
/// before. One in the kernel's hands may take longer; it starts none.
fn wait_until_stopped(pid: u32) {
    let deadline = Instant::now() + SIGNAL_DEADLINE;
    let runs = || stat(pid).is_some_and(|stat| !matches!(stat.state, 'T' | 't' | 'Z'));
    while runs() && Instant::now() < deadline {
        thread::sleep(Duration::from_micros(100));
    }
}

/// Kills the PostgreSQL processes that carry a run folder's name in their title.
pub(crate) fn kill_by_title(run: &str) {
    let marks = [format!("cluster_name={run}-"), format!("postgres: {run}-")];
    for pid in pids() {
        let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let title = String::from_utf8_lossy(&title);
        if marks.iter().any(|mark| title.contains(mark.as_str())) {
            send(pid, Signal::KILL);
        }
    }
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z')
}

struct Stat {
    state: char,
    parent: u32,
}

/// State and parent, which follow the parenthesised name in `/proc/PID/stat`.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

/// The last lines that were written to a log since `start`.
fn tail(log: &Path, start: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.read_to_end(&mut bytes)
    });
    if read.is_err() {
        return "(unreadable)".into();
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Implements what all servers can do, for a type with `daemons()`.
macro_rules! lifecycle {
    ($server:ty) => {
        impl $server {
            /// Stops every process of the server in its tracks (SIGSTOP):
            /// connections stay open and nothing answers.
            pub fn freeze(&self) {
                self.daemons().for_each(crate::process::Daemon::freeze);
            }

            /// Lets a frozen server go on (SIGCONT).
            pub fn thaw(&self) {
                self.daemons().for_each(crate::process::Daemon::thaw);
            }

            /// Kills every process of the server at once (SIGKILL).
            pub fn kill(&self) {
                self.daemons().for_each(crate::process::Daemon::kill);
            }

            /// Stops the server in an orderly way, cutting its clients off.
            pub fn stop(&self) {
                self.daemons().for_each(crate::process::Daemon::stop);
            }

            /// Starts the server again on the same port and data, stopping it
            /// first if it runs.
            pub fn restart(&self) -> Result<(), crate::Error> {
                self.daemons().try_for_each(crate::process::Daemon::restart)
            }

            /// The main process's id, `None` while the server is down.
            pub fn pid(&self) -> Option<u32> {
                self.daemons().next()?.pid()
            }
        }
    };
}
pub(crate) use lifecycle;

/// Implements a process-wide instance, for a type with `start()`.
macro_rules! shared {
    ($server:ty) => {
        impl $server {
            /// One server for the whole process, started at first use; it ends
            /// with the process.
            ///
            /// # Panics
            ///
            /// If it cannot be started; the message says what to do.
            pub fn shared() -> &'static Self {
                static SHARED: std::sync::OnceLock<$server> = std::sync::OnceLock::new();
                SHARED.get_or_init(|| match Self::start() {
                    Ok(server) => server,
                    Err(error) => panic!("{error}"),
                })
            }
        }
    };
}
pub(crate) use shared;
