//! `millpond seal`: a secret in a form that may be written down.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read as _};

use millpond::{SealingKey, Secret};

use crate::{ConfigFile, Exit, complain, print};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Makes a new key and prints it, instead of sealing anything
    #[arg(long)]
    new_key: bool,
    /// Here to be refused in words that do not repeat it
    #[arg(hide = true)]
    secret: Option<OsString>,
}

pub(crate) const HELP: &str = "\
The secret is asked for on a terminal, and read from standard input otherwise:

  millpond seal --new-key > key
  export SECURITY_ENCRYPTION_KEY_FILE=key
  printf %s \"$PASSWORD\" | millpond seal

What is printed is accepted wherever a configuration takes a secret: as DB_PASSWORD, in the file
that DB_PASSWORD_FILE names, as the password in DATABASE_URL, and so on.";

/// A longer secret is a mistake.
const LONGEST: u64 = 64 << 10;

const KEEP: &str = "\
Keep it apart from what is sealed with it, in a file that the program alone can read, and name that
file in SECURITY_ENCRYPTION_KEY_FILE.";

const NO_KEY: &str = "there is no key to seal with: set SECURITY_ENCRYPTION_KEY_FILE to a file with it \
     (`millpond seal --new-key > FILE` makes one), or SECURITY_ENCRYPTION_KEY to the key itself";

const IN_SIGHT: &str = "a secret on the command line can be read by everybody on this machine, and \
     stays in the shell's history: change it, and give the new one on standard input";

pub(crate) fn run(args: &Args) -> Exit {
    if args.secret.is_some() {
        return complain(IN_SIGHT);
    }
    if args.new_key {
        print(&format!("{}\n", SealingKey::generate().to_text().expose()));
        if io::stdout().is_terminal() {
            eprintln!("\n{KEEP}");
        }
        return Exit::Well;
    }
    let key = args.file.load().and_then(|config| config.sealing_key());
    let key = match key {
        Ok(Some(key)) => key,
        Ok(None) => return complain(NO_KEY),
        Err(error) => return complain(error.message()),
    };
    let secret = if io::stdin().is_terminal() {
        asked()
    } else {
        piped()
    };
    match secret {
        Ok(secret) => {
            print(&format!("{}\n", key.seal(&secret)));
            Exit::Well
        }
        Err(why) => complain(&why),
    }
}

/// Asked for twice on the terminal, as nobody sees what is typed.
fn asked() -> Result<Secret, String> {
    let ask = |prompt| {
        let typed = rpassword::prompt_password(prompt);
        typed.map(Secret::from).map_err(|error| error.to_string())
    };
    let secret = one_line(&ask("Secret: ")?)?;
    let again = ask("The same again: ")?;
    if secret.expose() == again.expose() {
        Ok(secret)
    } else {
        Err("the two are not the same; nothing was sealed".to_owned())
    }
}

fn piped() -> Result<Secret, String> {
    let mut text = String::new();
    let read = io::stdin().take(LONGEST).read_to_string(&mut text);
    let text = Secret::from(text);
    read.map_err(|error| format!("standard input cannot be read: {error}"))?;
    one_line(&text)
}

/// Without the line feed that ends it. A secret of several lines could not be read again.
fn one_line(text: &Secret) -> Result<Secret, String> {
    let line = text.expose().strip_suffix('\n').unwrap_or(text.expose());
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("the secret is empty".to_owned());
    }
    if line.contains(['\n', '\r']) {
        return Err("the secret has several lines, and may have only one".to_owned());
    }
    Ok(Secret::from(line))
}
