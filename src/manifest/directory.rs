//! A manifest that is a directory: consecutive files of one format, or an image folder.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::compression::ManifestCompression;
use super::format::ManifestFormat;
use super::images;
use super::input::ManifestInput;
use crate::error::{Error, ErrorKind, Result};

/// The files of a manifest, in the byte order of their names: `part-10.csv` comes before
/// `part-9.csv`. Rows are numbered over all files.
///
/// Either the files of one format in a directory, such as `train-00000-of-00010.parquet` or
/// `part-000.csv.gz`; hidden files, names that begin with `_`, other extensions and directories are
/// skipped. Or tar shards, as the webdataset library reads them. Or an image folder as the Hugging
/// Face libraries read it: a `metadata.csv`, `metadata.jsonl` or `metadata.parquet` beside the
/// images, or one in each directory of a split. Or class folders as torchvision's `ImageFolder` reads
/// them: a directory for each class with its images, numbered in torchvision's order.
pub struct ManifestDirectory<'a> {
    path: PathBuf,
    /// Relative to `path`.
    files: Vec<PathBuf>,
    format: ManifestFormat,
    image_folder: bool,
    /// The length of all files; of class folders, the number of images.
    bytes: u64,
    pub(super) progress: Box<dyn FnMut(u64) + 'a>,
}

const METADATA: &str = "metadata";

impl<'a> ManifestDirectory<'a> {
    /// Opens a directory of files of this format, or, without one, of the format that its files
    /// have. A directory with a `metadata` file, directly or in each of its subdirectories only, is
    /// an image folder; one without any manifest, with images in its subdirectories, is class
    /// folders.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if it holds no manifest; [`Manifest`](ErrorKind::Manifest)
    /// if its files have several formats; [`Io`](ErrorKind::Io) if it cannot be listed.
    pub fn open(path: impl AsRef<Path>, format: Option<ManifestFormat>) -> Result<Self> {
        let path = path.as_ref();
        if format == Some(ManifestFormat::ClassFolders) {
            return Self::of_classes(path);
        }
        let all = manifests(path, Path::new(""))?;
        if all.iter().any(|(file, _)| is_metadata(file)) {
            return Self::of_images(path, all, format);
        }
        let files = chosen(all, format);
        if files.is_empty() {
            let within = metadata_within(path)?;
            if within.is_empty() && format.is_none() && images::has_class_folders(path)? {
                return Self::of_classes(path);
            }
            if within.is_empty() {
                return Err(nothing(path, format, "csv, tsv, jsonl or tar (.gz, .zst) or parquet"));
            }
            return Self::of_images(path, within, format);
        }
        Self::of_files(path, files, false)
    }

    /// Opens an image folder: the `metadata` file of a directory, or those of its subdirectories.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn image_folder(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut files = manifests(path, Path::new(""))?;
        files.extend(metadata_within(path)?);
        Self::of_images(path, files, None)
    }

    fn of_classes(path: &Path) -> Result<Self> {
        let files = images::list(path)?;
        if files.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{}: no images; expected a directory for each class with images in it{}",
                    path.display(),
                    images::archives(path)
                ),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            bytes: files.len() as u64,
            files,
            format: ManifestFormat::ClassFolders,
            image_folder: false,
            progress: Box::new(|_bytes| {}),
        })
    }

    fn of_images(
        path: &Path,
        mut files: Vec<(PathBuf, ManifestFormat)>,
        format: Option<ManifestFormat>,
    ) -> Result<Self> {
        files.retain(|(file, _)| is_metadata(file));
        let files = chosen(files, format);
        if files.is_empty() {
            return Err(nothing(path, format, "metadata.csv, metadata.jsonl or metadata.parquet"));
        }
        Self::of_files(path, files, true)
    }

    fn of_files(
        path: &Path,
        mut files: Vec<(PathBuf, ManifestFormat)>,
        image_folder: bool,
    ) -> Result<Self> {
        let bytes_of = |file: &PathBuf| file.as_os_str().as_encoded_bytes().to_vec();
        files.sort_by_cached_key(|(file, _)| bytes_of(file));
        let (first, format) = &files[0];
        if let Some((other, found)) = files.iter().find(|(_, found)| found != format) {
            let (path, first, other) = (path.display(), first.display(), other.display());
            return Err(Error::new(
                ErrorKind::Manifest,
                format!(
                    "{path}: expected files of one format, got {first} ({format}) and {other} \
                     ({found}); name the format to take only its files"
                ),
            ));
        }
        let format = *format;
        let files: Vec<PathBuf> = files.into_iter().map(|(file, _)| file).collect();
        let mut bytes = 0;
        for file in &files {
            let file = path.join(file);
            let metadata = fs::metadata(&file).map_err(|error| Error::io("read", &file, error))?;
            bytes += metadata.len();
        }
        let path = path.to_owned();
        let progress = Box::new(|_bytes| {});
        Ok(Self { path, files, format, image_folder, bytes, progress })
    }

    /// Calls `progress` now and then with the bytes read since the last call.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(u64) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the files, relative to the directory, in the order in which their rows are numbered.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Returns the format of the files.
    #[must_use]
    pub fn format(&self) -> ManifestFormat {
        self.format
    }

    /// Returns whether the directory is an image folder.
    #[must_use]
    pub fn is_image_folder(&self) -> bool {
        self.image_folder
    }

    /// Returns the length of all files in bytes; of class folders, the number of images.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Opens one of the files.
    pub(super) fn input<'b>(
        &self,
        file: &Path,
        progress: &'b mut dyn FnMut(u64),
    ) -> Result<ManifestInput<'b>> {
        Ok(ManifestInput::file(self.path.join(file))?.on_progress(progress))
    }
}

impl fmt::Debug for ManifestDirectory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestDirectory")
            .field("path", &self.path)
            .field("files", &self.files)
            .field("format", &self.format)
            .field("image_folder", &self.image_folder)
            .finish_non_exhaustive()
    }
}

fn nothing(path: &Path, format: Option<ManifestFormat>, wanted: &str) -> Error {
    let of = format.map(|format| format!(" of the format {format}")).unwrap_or_default();
    let (archives, path) = (images::archives(path), path.display());
    Error::new(
        ErrorKind::NotFound,
        format!("{path}: no manifest{of}; expected files named {wanted}{archives}"),
    )
}

fn chosen(
    files: Vec<(PathBuf, ManifestFormat)>,
    format: Option<ManifestFormat>,
) -> Vec<(PathBuf, ManifestFormat)> {
    let wanted = |found: ManifestFormat| format.is_none_or(|format| format == found);
    files.into_iter().filter(|(_, found)| wanted(*found)).collect()
}

/// Lists the files of a directory whose names are those of manifests.
fn manifests(root: &Path, directory: &Path) -> Result<Vec<(PathBuf, ManifestFormat)>> {
    let mut files = Vec::new();
    for (name, is_directory) in entries(root, directory)? {
        if !is_directory && let Ok(format) = ManifestFormat::from_path(&name) {
            files.push((directory.join(name), format));
        }
    }
    Ok(files)
}

/// Lists the `metadata` files of all subdirectories.
fn metadata_within(root: &Path) -> Result<Vec<(PathBuf, ManifestFormat)>> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(directory) = left.pop() {
        if !directory.as_os_str().is_empty() {
            let files = manifests(root, &directory)?;
            found.extend(files.into_iter().filter(|(file, _)| is_metadata(file)));
        }
        for (name, is_directory) in entries(root, &directory)? {
            if is_directory {
                left.push(directory.join(name));
            }
        }
    }
    Ok(found)
}

/// Lists visible files and directories. Links to directories are not followed, since they could
/// lead in a circle.
fn entries(root: &Path, directory: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let path = root.join(directory);
    let failed = |error| Error::io("list", &path, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") || name.as_encoded_bytes().starts_with(b"_") {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        let is_link = kind.is_symlink();
        let is_file =
            kind.is_file() || is_link && fs::metadata(entry.path()).is_ok_and(|it| it.is_file());
        if is_file || kind.is_dir() {
            found.push((PathBuf::from(name), kind.is_dir()));
        }
    }
    Ok(found)
}

fn is_metadata(file: &Path) -> bool {
    let plain = ManifestCompression::from_path(file) == ManifestCompression::Plain;
    plain && file.file_stem().is_some_and(|stem| stem == METADATA)
}
