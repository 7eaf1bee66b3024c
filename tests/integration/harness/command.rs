//! Runs the `data-diet` command; a failed expectation prints the call, its status, both streams and
//! what lies in the directories that it was given.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::directory::listing;

/// A finished call of `data-diet`.
#[derive(Debug)]
pub(crate) struct Call {
    shown: String,
    code: Option<i32>,
    directories: Vec<PathBuf>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_data-diet"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Calls `data-diet` and expects this exit code.
#[track_caller]
pub(crate) fn data_diet<S: AsRef<OsStr>>(arguments: &[S], code: i32) -> Call {
    finish(&mut command(arguments), code)
}

#[track_caller]
pub(crate) fn finish(command: &mut Command, code: i32) -> Call {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let call = Call {
        shown: format!("{command:?}"),
        code: status.code(),
        directories: command.get_args().map(PathBuf::from).filter(|path| path.is_dir()).collect(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    };
    assert_eq!(call.code, Some(code), "{}", call.describe());
    call
}

impl Call {
    pub(crate) fn describe(&self) -> String {
        let Self { shown, code, directories, stdout, stderr } = self;
        let shown_directory = |path: &PathBuf| format!("{}:\n{}", path.display(), listing(path));
        let directories: Vec<String> = directories.iter().map(shown_directory).collect();
        let directories = directories.concat();
        format!("{shown}\nexit code: {code:?}\nstdout:\n{stdout}\nstderr:\n{stderr}\n{directories}")
    }

    /// Expects words on standard output.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        assert!(self.stdout.contains(words), "stdout lacks `{words}`\n{}", self.describe());
        self
    }

    /// Expects words on standard error.
    #[track_caller]
    pub(crate) fn tells(&self, words: &str) -> &Self {
        assert!(self.stderr.contains(words), "stderr lacks `{words}`\n{}", self.describe());
        self
    }

    /// Expects nothing on standard error.
    #[track_caller]
    pub(crate) fn is_quiet(&self) -> &Self {
        assert!(self.stderr.is_empty(), "{}", self.describe());
        self
    }
}
