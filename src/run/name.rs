//! Names of runs, which become directory names and values of a Hive partition, on every platform and
//! in every reader.

use crate::error::{Error, Result};

/// Checks that a name can be that of a run.
pub(crate) fn check_run_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && name.len() <= 128 && name.chars().all(allowed) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "run: expected 1 to 128 letters, digits, `-`, `_` or `.`, a letter or digit first, got `{name}`"
    )))
}

/// Checks the name of a new run beside those that exist: it must be the same text in every reader,
/// and differ from every other in more than case.
pub(crate) fn check_new_run_name(name: &str, existing: &[String]) -> Result<()> {
    check_run_name(name)?;
    if is_retyped(name) {
        return Err(Error::invalid(format!(
            "run: expected a name that every reader takes for text, got `{name}`, which some take \
             for a number, a Boolean, a date or nothing; `run-{name}` would do"
        )));
    }
    match existing.iter().find(|it| it.as_str() != name && it.eq_ignore_ascii_case(name)) {
        Some(other) => Err(Error::invalid(format!(
            "run: expected a name that differs from `{other}` in more than case, got `{name}`: some \
             file systems and readers take them for the same"
        ))),
        None => Ok(()),
    }
}

/// Returns whether some reader would make something other than text of a partition's value: Polars,
/// pyarrow and DuckDB take what looks like a number, a Boolean or a date for one, and Spark also what
/// Java parses (`1d`, `0x1p3`).
pub(crate) fn is_retyped(name: &str) -> bool {
    const WORDS: [&str; 21] = [
        "true",
        "false",
        "t",
        "f",
        "yes",
        "no",
        "y",
        "n",
        "on",
        "off",
        "null",
        "none",
        "nil",
        "nan",
        "na",
        "inf",
        "infinity",
        "now",
        "today",
        "tomorrow",
        "yesterday",
    ];
    let lower = name.to_ascii_lowercase();
    // Exponents, suffixes and hexadecimal digits of numbers, and the letters of timestamps.
    let numeric = |c: char| c.is_ascii_hexdigit() || "lxptz-_.".contains(c);
    WORDS.contains(&lower.as_str())
        || lower.starts_with(|c: char| c.is_ascii_digit()) && lower.chars().all(numeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_names_that_break_a_reader_are_refused() {
        for name in ["", ".", "..", "_x", "a/b", "a=b", "a b", "é", "-x", &"x".repeat(129)] {
            assert!(check_run_name(name).is_err(), "{name}");
        }
        for name in ["0", "seed-0", "2026-11-24.a_b"] {
            check_run_name(name).unwrap();
        }
    }

    #[test]
    fn names_that_a_reader_would_retype_are_refused_for_new_runs() {
        for name in [
            "1",
            "01",
            "1.5",
            "1e3",
            "1_000",
            "-1".trim_start_matches('-'),
            "true",
            "False",
            "NULL",
            "nan",
            "Infinity",
            "2026-11-24",
            "2026-11-24T10",
            "20261124",
            "0x1p3",
            "1d",
            "7L",
        ] {
            let error = check_new_run_name(name, &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("`run-{name}` would do")), "{error}");
            check_new_run_name(&format!("run-{name}"), &[]).unwrap();
        }
        for name in ["seed-0", "2026-11-24-second", "resnet18", "v1.5", "truth", "n0"] {
            check_new_run_name(name, &["seed-1".to_owned()]).unwrap();
        }
        let error = check_new_run_name("Seed-1", &["seed-1".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("differs from `seed-1` in more than case"), "{error}");
    }
}
