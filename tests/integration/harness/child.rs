//! A second process that runs one function of this test binary, so that a test can kill it.

use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const DIRECTORY: &str = "DATA_DIET_TEST_CHILD";
const MARK: &str = "child says ";

/// The process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Recording {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Recording {
    /// Starts this binary again with nothing but the ignored test of this full name, which finds the
    /// directory by [`directory_of_child`].
    pub(crate) fn start(test: &str, directory: &Path) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", test, "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next thing that the child [`say`]s, or `None` once it is dead and all was heard.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            let line = self.lines.next()?.unwrap();
            // The test harness of the child talks too, and a kill can cut a line.
            if let Some(text) = line.strip_prefix(MARK).and_then(|text| text.strip_suffix('.')) {
                return Some(text.to_owned());
            }
        }
    }

    /// SIGKILL: no destructor runs, no buffer is written. Returns what it had said that was not heard.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In the child: the directory it was started with; `None` in an ordinary run of the tests.
pub(crate) fn directory_of_child() -> Option<PathBuf> {
    env::var_os(DIRECTORY).map(PathBuf::from)
}

/// In the child: tells the parent something, with one write that is with the system when it returns.
pub(crate) fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // The test harness leaves its own line open.
    stdout.write_all(format!("\n{MARK}{text}.\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}
