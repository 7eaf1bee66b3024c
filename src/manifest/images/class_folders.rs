//! Class folders: a directory for each class, with its images somewhere in it.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::directory::ManifestDirectory;
use super::super::row_filter::RowFilter;
use super::super::{Manifest, ManifestSummary};
use super::{ImageFiles, place};
use crate::error::{Error, ErrorKind, Result};
use crate::selection::Selection;
use crate::storage::AtomicDirectory;

/// The extensions that torchvision takes for images.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];
/// So many images are decided about at once.
const BATCH: usize = 4096;

/// Returns whether a directory has directories of images.
pub(in super::super) fn has_class_folders(root: &Path) -> Result<bool> {
    for class in directories(root)? {
        if !images_within(&root.join(&class))?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Lists the images, relative to the directory, in the order of `torchvision.datasets.ImageFolder`:
/// classes by name, in each the directories by path, in each the files by name. Links to
/// directories are followed.
pub(in super::super) fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for class in directories(root)? {
        let within = images_within(&root.join(&class))?;
        // As text: `a-b` comes before `a/b`.
        let mut folders = within;
        folders.sort_by_cached_key(|(folder, _)| folder.as_os_str().as_encoded_bytes().to_vec());
        for (folder, mut names) in folders {
            names.sort_by_cached_key(|name| name.as_os_str().as_encoded_bytes().to_vec());
            let folder = folder.strip_prefix(root).unwrap_or(&folder).to_owned();
            images.extend(names.into_iter().map(|name| folder.join(name)));
        }
    }
    Ok(images)
}

/// Lists the names of the directories in a directory.
fn directories(root: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("list", root, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_dir() {
            found.push(PathBuf::from(entry.file_name()));
        }
    }
    found.sort_by_cached_key(|name| name.as_os_str().as_encoded_bytes().to_vec());
    Ok(found)
}

/// Returns the directories in which there are images, and the names of those.
fn images_within(directory: &Path) -> Result<Vec<(PathBuf, Vec<PathBuf>)>> {
    let failed = |error| Error::io("list", directory, error);
    let (mut names, mut found) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            if path.is_symlink() && leads_back(&path, directory) {
                return Err(Error::new(
                    ErrorKind::Manifest,
                    format!("{}: a link leads back to a directory above it", path.display()),
                ));
            }
            found.extend(images_within(&path)?);
        } else if is_image(&path)
            && let Some(name) = path.file_name()
        {
            names.push(PathBuf::from(name));
        }
    }
    if !names.is_empty() {
        found.push((directory.to_owned(), names));
    }
    Ok(found)
}

fn leads_back(link: &Path, directory: &Path) -> bool {
    match (fs::canonicalize(link), fs::canonicalize(directory)) {
        (Ok(target), Ok(directory)) => directory.starts_with(target),
        _ => false,
    }
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

/// Puts the kept images into a directory of the same classes. The directory of a class without a
/// kept image stays, so that classes keep their numbers.
pub(in super::super) fn filter_class_folders(
    manifest: &Manifest,
    selection: &Selection,
    directory: &ManifestDirectory<'_>,
    output: Option<&Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<ManifestSummary> {
    let root = directory.path();
    let whole = root.display().to_string();
    let mut row_filter = RowFilter::new(selection, manifest, &whole);
    let draft = output.map(AtomicDirectory::create).transpose()?;
    if let Some(draft) = &draft {
        for class in directories(root)? {
            // Made with its parents.
            let class = draft.place(&class.join("x"))?;
            debug_assert!(class.parent().is_some_and(Path::is_dir));
        }
    }
    let how = match manifest.images {
        ImageFiles::Leave => None,
        how => draft.as_ref().map(|draft| (draft, how)),
    };
    let (mut ids, mut keep_flags) = (Vec::new(), Vec::new());
    for images in directory.files().chunks(BATCH) {
        ids.clear();
        for image in images {
            let id = match &manifest.key {
                None => Ok(row_filter.id_of_row()),
                Some(column) => {
                    // Whatever the system, keys have slashes.
                    let text = image.to_string_lossy().replace('\\', "/");
                    row_filter.id_of_text(text.as_bytes(), column)
                }
            };
            ids.push(id.map_err(|bad| row_filter.refuse(bad, None))?);
        }
        row_filter.decide(&ids, &mut keep_flags);
        for (image, _) in images.iter().zip(&keep_flags).filter(|(_, keep)| **keep) {
            if let Some((draft, how)) = how {
                place(&root.join(image), &draft.place(image)?, how)?;
            }
        }
        progress(images.len() as u64);
    }
    let summary = row_filter.finish()?;
    draft.map_or(Ok(()), AtomicDirectory::commit)?;
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_torchvision() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for image in [
            "b/2.png",
            "b/10.png",
            "a/x/sub/1.JPG",
            "a/x-y/0.jpg",
            "a/z.jpeg",
            "a/y.txt",
            "B/1.webp",
            ".hidden/1.png",
            "top.png",
        ] {
            let path = root.join(image);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, image).unwrap();
        }
        let found = list(root).unwrap();
        let found: Vec<_> = found.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            found,
            [
                ".hidden/1.png",
                "B/1.webp",
                "a/z.jpeg",
                "a/x-y/0.jpg",
                "a/x/sub/1.JPG",
                "b/10.png",
                "b/2.png",
            ]
        );
        assert!(has_class_folders(root).unwrap());
        assert!(!has_class_folders(&root.join("b")).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_back_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let class = directory.path().join("a");
        fs::create_dir(&class).unwrap();
        std::os::unix::fs::symlink(&class, class.join("again")).unwrap();
        let error = list(directory.path()).unwrap_err();
        assert!(error.to_string().contains("a link leads back"), "{error}");
    }
}
