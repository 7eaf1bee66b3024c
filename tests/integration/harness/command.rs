//! The command line as a user runs it, with failures that show everything there is to see.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::directory::{Directory, listing};

/// The `data-diet` command, to be run in a test's directory.
pub(crate) fn data_diet(directory: &Directory) -> DataDiet {
    let mut command = Command::new(env!("CARGO_BIN_EXE_data-diet"));
    command.current_dir(directory.path()).stdin(Stdio::null());
    DataDiet { command, input: None, directory: directory.path().to_owned() }
}

#[derive(Debug)]
#[must_use = "nothing runs before an outcome is asked for"]
pub(crate) struct DataDiet {
    command: Command,
    input: Option<Vec<u8>>,
    directory: PathBuf,
}

/// What a command wrote.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl DataDiet {
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Gives the command this standard input.
    #[allow(dead_code, reason = "for tests of pipes")]
    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Runs it and expects exit code 0.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Ran {
        self.exits(0)
    }

    /// Runs it and expects this exit code.
    #[track_caller]
    pub(crate) fn exits(mut self, code: i32) -> Ran {
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let writer = self.input.take().zip(child.stdin.take()).map(|(bytes, mut pipe)| {
            // A command may end before it has read everything.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)))
        });
        let output = child.wait_with_output().unwrap();
        if let Some(writer) = writer {
            writer.join().unwrap();
        }
        let ran = Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        if output.status.code() != Some(code) {
            explain(&self.directory, &self.command, output.status, code, &ran);
        }
        ran
    }
}

#[track_caller]
fn explain(
    directory: &Path,
    command: &dyn Debug,
    status: ExitStatus,
    expected: i32,
    ran: &Ran,
) -> ! {
    panic!(
        "{command:?}\nexpected exit code {expected}, got {status}\n--- {}\n{}--- stdout\n{}\n\
         --- stderr\n{}",
        directory.display(),
        listing(directory),
        ran.stdout,
        ran.stderr
    )
}
