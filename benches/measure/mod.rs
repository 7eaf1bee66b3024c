//! Runs cases side by side, each in a process of its own and in turn, so that CPU time and peak
//! memory are its own and a machine that slows down slows all of them.

use std::fs;
use std::process::Command;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The case that this process was started for, if it was started by [`in_turn`].
pub(crate) fn case() -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--case");
    arguments.nth(1)
}

/// Passes what a case has measured to the process that started it.
pub(crate) fn tell(measured: &impl Serialize) {
    println!("{}", serde_json::to_string(measured).unwrap());
}

/// Runs cases A B C A B C ..., each in a process of its own, after one round that does not count.
pub(crate) fn in_turn<M: DeserializeOwned>(
    rounds: usize,
    cases: &[impl AsRef<str>],
) -> Vec<Vec<M>> {
    let mut measured: Vec<Vec<M>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (case, measured) in cases.iter().zip(&mut measured) {
            let program = std::env::current_exe().unwrap();
            let output = Command::new(program).args(["--case", case.as_ref()]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            if round > 0 {
                measured.push(serde_json::from_str(text.trim()).unwrap());
            }
        }
    }
    measured
}

/// The median of some values.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The peak resident memory of this process, where Linux reports it.
pub(crate) fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}
