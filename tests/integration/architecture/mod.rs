//! The directions of imports, as `docs/architecture.md` draws them, held against the source.
//!
//! Every path in the code counts: imports, qualified paths, re-exports, paths in macros. Comments and test
//! code do not.

mod paths;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use paths::{Reference, references};
use rules::{CORE, Crate, HOOK, Rule};

/// The source files of a crate with their modules, without its programs and its tests.
fn sources(root: &Path) -> Vec<(PathBuf, Vec<String>)> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !matches!(name, "bin" | "tests") {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") && name != "tests.rs" {
                let module = path.strip_prefix(root).unwrap().with_extension("");
                let mut module: Vec<String> =
                    module.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                module.pop_if(|last| matches!(last.as_str(), "mod" | "lib"));
                found.push((path, module));
            }
        }
    }
    found.sort();
    found
}

fn violations(rules: &Crate, module: &[String], source: &str) -> Vec<String> {
    let room = module.first().map(String::as_str);
    let broken = |reference: &Reference| {
        let rule = rules.broken_by(room, &reference.path)?;
        Some(format!("line {}: `{}`: {rule}", reference.line, reference.path.join("::")))
    };
    references(module, source).iter().filter_map(broken).collect()
}

/// The page that describes the rooms to people.
fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    fs::read_to_string(path).unwrap()
}

/// The words in backticks of a text.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn check(rules: &Crate, root: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let sources = sources(&root);
    let mut found = Vec::new();
    for (path, module) in &sources {
        if let Some(room) = module.first() {
            assert!(
                rules.knows(room),
                "no rule for the room `{room}`; docs/architecture.md has them"
            );
        }
        let source = fs::read_to_string(path).unwrap();
        let broken = violations(rules, module, &source);
        found.extend(broken.iter().map(|violation| format!("{}: {violation}", path.display())));
    }
    assert!(found.is_empty(), "imports against the rules:\n{}", found.join("\n"));
    for room in rules.rooms() {
        let is_there =
            sources.iter().any(|(_, module)| module.first().is_some_and(|it| it == room));
        assert!(is_there, "the rules name `{room}`, which is not in {}", root.display());
    }
}

#[test]
fn no_import_of_the_core_goes_upward() {
    check(&CORE, "src");
}

#[test]
fn no_import_of_the_hook_crate_goes_upward() {
    check(&HOOK, "hooks/candle/src");
}

#[test]
fn the_page_and_the_rules_agree() {
    let page = page();
    for (heading, rules) in [("### `src/`", &CORE), ("### `hooks/candle/src/`", &HOOK)] {
        let (_, table) = page.split_once(heading).unwrap();
        let rows = table.lines().skip_while(|line| !line.starts_with("| `"));
        let rows: Vec<Vec<&str>> = rows
            .take_while(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').collect())
            .collect();
        let rooms: Vec<&str> = rows.iter().map(|row| quoted(row[0])[0]).collect();
        assert_eq!(rooms, rules.rooms().collect::<Vec<_>>(), "the rooms of {heading}, in order");
        for row in &rows {
            let room = quoted(row[0])[0];
            let imports = quoted(row[row.len() - 1]);
            for other in rules.rooms().filter(|&other| other != "error") {
                assert_eq!(
                    imports.contains(&other),
                    rules.allows(room, other),
                    "{room} -> {other}"
                );
            }
        }
    }
}

#[test]
fn every_file_that_the_page_names_exists() {
    let page = page();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_path = |word: &&str| word.starts_with("src/") || word.starts_with("hooks/");
    let named: Vec<&str> = quoted(&page).into_iter().filter(is_path).collect();
    assert!(named.len() > 30, "{named:?}");
    for path in named {
        assert!(root.join(path).exists(), "docs/architecture.md names {path}");
    }
}

/// The rule that a line in a module breaks.
fn planted(rules: &Crate, module: &str, source: &str) -> Vec<String> {
    let module: Vec<String> = module.split("::").map(str::to_owned).collect();
    violations(rules, &module, source)
}

#[test]
fn every_room_is_refused_what_it_must_not_import() {
    for rules in [&CORE, &HOOK] {
        for room in rules.rooms() {
            for other in rules.rooms() {
                let source = format!("use crate::{other}::Anything;");
                let is_allowed = room == other || rules.allows(room, other);
                assert_eq!(
                    planted(rules, room, &source).is_empty(),
                    is_allowed,
                    "{room} -> {other}"
                );
            }
        }
    }
}

#[test]
fn the_rules_have_no_circle() {
    for rules in [&CORE, &HOOK] {
        // A room may only import rooms that stand before it.
        let rooms: Vec<&str> = rules.rooms().collect();
        for (place, room) in rooms.iter().enumerate() {
            for other in &rooms[place..] {
                assert!(!rules.allows(room, other), "{room} -> {other} runs upward");
            }
        }
    }
}

#[test]
fn a_violation_is_found_however_it_is_written() {
    for source in [
        "use crate::run::Experiment;",
        "use crate::{error::{Error, Result}, run::{Experiment}};",
        "pub use crate::run::Experiment;",
        "pub(crate) use super::super::run as other;",
        "fn f() { let _ = crate::run::Experiment::open(path); }",
        "fn f() { let _ = super::super::run::Experiment::open(path); }",
        "impl crate::run::Sealed for Rule {}",
        "fn f() { vec![crate::run::check_run_name(name)]; }",
        "mod inner { use super::super::super::run::Experiment; }",
        "macro_rules! m { () => { $crate::run::Experiment } }",
    ] {
        let found = planted(&CORE, "selection::rule", source);
        assert_eq!(found.len(), 1, "{source}: {found:?}");
    }
}

#[test]
fn comments_strings_and_tests_are_free() {
    for source in [
        "// use crate::run::Experiment;",
        "/// See [`Experiment`](crate::run::Experiment).\nfn f() {}",
        "const NAME: &str = \"crate::run::Experiment\";",
        "#[cfg(test)] mod tests { use crate::run::Experiment; }",
        "#[cfg(test)] use crate::run::Experiment;",
    ] {
        assert_eq!(planted(&CORE, "selection::rule", source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn the_other_rules_find_what_breaks_them() {
    let found = |rules: &Crate, module: &str, source: &str, rule: Rule| {
        let found = planted(rules, module, source);
        assert!(found.len() == 1 && found[0].ends_with(&rule.to_string()), "{source}: {found:?}");
    };
    found(&CORE, "observe::batch", "use candle_core::Tensor;", Rule::NoFramework);
    found(&CORE, "selection::rule", "use crate as root;", Rule::NoAlias);
    for library in [&CORE, &HOOK] {
        found(library, "error", "fn f() { std::process::exit(1) }", Rule::NoProcess);
        found(library, "error", "fn f() { std::env::var(name); }", Rule::NoProcess);
        found(library, "error", "use std::{env, fmt};", Rule::NoProcess);
    }
    found(&HOOK, "hook", "use arrow::array::Array;", Rule::NoFiles);
    found(&HOOK, "hook::builder", "use std::fs::File;", Rule::NoFiles);
    found(&HOOK, "hook::builder", "fn f() { std::thread::spawn(g); }", Rule::NoFiles);
    found(&HOOK, "hook", "use candle_nn::Optimizer;", Rule::NoOptimizer);
}
