//! Keeps outputs apart from inputs, and from what exists.

use std::path::Path;

use same_file::Handle;

use crate::CommandError;

/// The path that means standard input or standard output.
pub(super) const STANDARD_STREAM: &str = "-";

/// What a command reads and writes, by the names of options.
#[derive(Default)]
pub(super) struct Files<'a> {
    inputs: Vec<(&'a str, &'a Path)>,
    outputs: Vec<(&'a str, &'a Path)>,
}

impl<'a> Files<'a> {
    pub(super) fn input(mut self, what: &'a str, path: Option<&'a Path>) -> Self {
        self.inputs.extend(path.map(|path| (what, path)));
        self
    }

    pub(super) fn output(mut self, what: &'a str, path: Option<&'a Path>) -> Self {
        self.outputs.extend(path.map(|path| (what, path)));
        self
    }

    /// Refuses an output that is one of the inputs, by whatever name (links, standard streams), an
    /// output that is another one, and, without `force`, a file that exists.
    pub(super) fn check(&self, force: bool) -> Result<(), CommandError> {
        let inputs: Vec<_> = self
            .inputs
            .iter()
            .filter_map(|&(what, path)| Some((what, path, identity(path, Handle::stdin)?)))
            .collect();
        for (place, &(what, path)) in self.outputs.iter().enumerate() {
            if let Some((earlier, _)) = self.outputs[..place].iter().find(|(_, it)| *it == path) {
                return Err(CommandError::Arguments(format!(
                    "{what}: expected another file than that of {earlier}, got {}",
                    path.display()
                )));
            }
        }
        for &(what, path) in &self.outputs {
            let Some(identity) = identity(path, Handle::stdout) else { continue };
            if let Some((input, same, _)) = inputs.iter().find(|(.., it)| *it == identity) {
                return Err(CommandError::Arguments(format!(
                    "{what} {} is the same file as {input} {}; write to another one",
                    shown(path),
                    shown(same)
                )));
            }
            if path != Path::new(STANDARD_STREAM) && path.is_file() && !force {
                return Err(CommandError::Finding(format!(
                    "{what} {} exists; write to another file, or replace it with --force",
                    path.display()
                )));
            }
        }
        Ok(())
    }
}

/// Returns the identity of an ordinary file.
fn identity(path: &Path, standard: fn() -> std::io::Result<Handle>) -> Option<Handle> {
    let handle = if path == Path::new(STANDARD_STREAM) {
        standard().ok()?
    } else {
        Handle::from_path(path).ok()?
    };
    let metadata = handle.as_file().metadata().ok()?;
    // Pipes, terminals and the null device may be both.
    metadata.is_file().then_some(handle)
}

fn shown(path: &Path) -> String {
    if path == Path::new(STANDARD_STREAM) {
        return "`-` (a standard stream)".to_owned();
    }
    path.display().to_string()
}
