//! Directories of images: which images there are, and those that are kept beside the metadata or the
//! class that names them.

mod class_folders;
mod names;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

pub(super) use class_folders::{filter_class_folders, has_class_folders, list};
pub(super) use names::is_file_name;

use super::Manifest;
use super::row_filter::RowFilter;
use crate::error::{Error, ErrorKind, Result};

/// How the kept images of an image folder get into the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageFiles {
    /// By hard links, which take no space; copied where the file system cannot link, or the output
    /// is on another one.
    #[default]
    Link,
    /// Copied.
    Copy,
    /// Not at all: the output has the metadata alone.
    Leave,
}

/// Puts a file into the output.
fn place(from: &Path, to: &Path, how: ImageFiles) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
    }
    // A link to a link would break where the first one is relative.
    let target = fs::canonicalize(from).map_err(|error| Error::io("read", from, error))?;
    if how == ImageFiles::Link {
        match fs::hard_link(&target, to) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", to, error));
            }
            // Another file system, or one without links.
            Err(_) => {}
        }
    }
    fs::copy(&target, to).map(drop).map_err(|error| Error::io("copy", from, error))
}

/// Puts the images that a metadata file names beside it. `from` is the directory of the manifest's
/// metadata file, `metadata` the kept one in the output.
pub(super) fn place_named(
    manifest: &Manifest,
    from: &Path,
    metadata: &Path,
    row_filter: &RowFilter<'_>,
) -> Result<()> {
    let to = metadata.parent().unwrap_or(Path::new("."));
    let mut placed = HashSet::new();
    names::for_each(manifest, metadata, &mut |name| {
        let refuse = |what: String| row_filter.bad_manifest(ErrorKind::Manifest, what);
        let relative = within(name).ok_or_else(|| {
            refuse(format!("expected file names inside the directory, got `{name}`"))
        })?;
        let found = [relative.clone(), within(&name.replace('\\', "/")).unwrap_or_default()]
            .into_iter()
            .find(|relative| !relative.as_os_str().is_empty() && from.join(relative).is_file());
        let Some(relative) = found else {
            return Err(refuse(format!(
                "no image `{name}` in {}{}",
                from.display(),
                archives(from)
            )));
        };
        if placed.insert(relative.clone()) {
            place(&from.join(&relative), &to.join(&relative), manifest.images)?;
        }
        Ok(())
    })
}

/// Returns a relative path that stays inside its directory.
fn within(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    path.components()
        .all(is_plain)
        .then(|| path.components().filter(|part| matches!(part, Component::Normal(_))).collect())
}

/// Returns a hint if the images may be in an archive.
pub(super) fn archives(directory: &Path) -> String {
    let Ok(entries) = fs::read_dir(directory) else { return String::new() };
    let is_archive = |path: &PathBuf| path.extension().is_some_and(|it| it == "zip");
    let mut archives: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_archive).collect();
    archives.sort_unstable();
    match archives.first() {
        Some(archive) => format!("; {} may hold it: unpack it first", archive.display()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_their_directory() {
        for (name, expected) in [("a.png", "a.png"), ("./b/c.png", "b/c.png"), ("a/./b", "a/b")] {
            assert_eq!(within(name), Some(PathBuf::from(expected)));
        }
        for name in ["../a.png", "/etc/passwd", "a/../../b"] {
            assert_eq!(within(name), None, "{name}");
        }
    }
}
