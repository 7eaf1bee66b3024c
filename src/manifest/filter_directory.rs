//! Filters all files of a directory into a directory of the same files.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use super::compression::ManifestCompression;
use super::directory::ManifestDirectory;
use super::format::ManifestFormat;
use super::images::{self, ImageFiles, is_file_name};
use super::row_filter::RowFilter;
use super::{Manifest, ManifestSummary, webdataset};
use crate::error::{Error, ErrorKind, Result};
use crate::selection::Selection;
use crate::storage::{AtomicDirectory, BackgroundSync};

impl Manifest {
    /// Filters the files of a directory as one manifest: rows are numbered and ids compared over
    /// all of them. Each file is written under its name into a directory that appears only when it
    /// is complete. A file of which no row is kept is written too, with its columns and no rows,
    /// since file names often say how many files there are. Files may differ in their columns, all
    /// but the key. Without an output nothing is written,
    /// and the counts are returned.
    ///
    /// Of an image folder, the metadata is filtered, and the images that it names come with it as
    /// [`images`](Self::images) says, so that the output loads. Of class folders, the kept images
    /// come; the directory of a class stays even if no image of it does. Of tar shards, the members
    /// of a kept sample stay together. Keys are paths with slashes in class folders and the names up
    /// to the first dot in tar shards, whatever the key column is called.
    ///
    /// # Errors
    ///
    /// As for [`filter`](Self::filter), with the file's name. Also
    /// [`Manifest`](ErrorKind::Manifest) for an image folder whose metadata names no files;
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if the output exists and is not empty;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the output is inside the manifest or of
    /// another format, and for an image folder with several metadata files and no key, whose rows
    /// have no obvious numbers.
    pub fn filter_directory(
        &self,
        selection: &Selection,
        mut directory: ManifestDirectory<'_>,
        output: Option<&Path>,
    ) -> Result<ManifestSummary> {
        self.check()?;
        self.check_directory(&directory, output)?;
        let mut progress = std::mem::replace(&mut directory.progress, Box::new(|_bytes| {}));
        match self.format {
            ManifestFormat::ClassFolders => {
                return images::filter_class_folders(
                    self,
                    selection,
                    &directory,
                    output,
                    &mut *progress,
                );
            }
            ManifestFormat::WebDataset => {
                return webdataset::filter_shards(
                    self,
                    selection,
                    &directory,
                    output,
                    &mut *progress,
                );
            }
            _ => {}
        }
        let whole = directory.path().display().to_string();
        let mut row_filter = RowFilter::new(selection, self, &whole);
        let mut columns = None;
        let draft = output.map(AtomicDirectory::create).transpose()?;
        for name in directory.files() {
            row_filter.start_file(&directory.path().join(name).display().to_string());
            let input = directory.input(name, &mut *progress)?;
            let Some(draft) = &draft else {
                let found = self.filter_one(input, &mut io::sink(), &mut row_filter)?;
                columns = columns.or(found);
                continue;
            };
            let place = draft.place(name)?;
            let failed = |error| Error::io("write", &place, error);
            let file = File::create_new(&place).map_err(failed)?;
            let mut writer = BufWriter::with_capacity(1 << 18, BackgroundSync::new(&file));
            let manifest = self.clone().compression(Some(ManifestCompression::from_path(name)));
            let found = manifest.filter_one(input, &mut writer, &mut row_filter)?;
            columns = columns.or(found);
            // The rows have flushed it.
            let (early, _) = writer.into_parts();
            early.finish().map_err(failed)?;
            file.sync_all().map_err(failed)?;
            if directory.is_image_folder() && self.images != ImageFiles::Leave {
                let from = directory.path().join(name);
                let from = from.parent().unwrap_or(directory.path());
                images::place_named(self, from, &place, &row_filter)?;
            }
        }
        if directory.is_image_folder() {
            check_image_columns(columns.as_deref(), &row_filter)?;
        }
        let summary = row_filter.finish()?;
        draft.map_or(Ok(()), AtomicDirectory::commit)?;
        Ok(summary)
    }

    fn check_directory(
        &self,
        directory: &ManifestDirectory<'_>,
        output: Option<&Path>,
    ) -> Result<()> {
        if self.format != directory.format() {
            let (expected, got) = (self.format, directory.format());
            let path = directory.path().display();
            return Err(Error::invalid(format!(
                "format: expected {expected}, got {got} in {path}"
            )));
        }
        if directory.is_image_folder() && directory.files().len() > 1 && self.key.is_none() {
            let (count, path) = (directory.files().len(), directory.path().display());
            return Err(Error::invalid(format!(
                "key: expected a column, since {path} has {count} metadata files whose rows cannot be \
                 numbered as one; or give the directory of one split"
            )));
        }
        let Some(output) = output else { return Ok(()) };
        // A path that does not exist yet has a parent that does.
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let resolved = |path: &Path| path.canonicalize().ok();
        let within = resolved(output).or_else(|| resolved(parent));
        if let (Some(within), Some(manifest)) = (within, resolved(directory.path()))
            && within.starts_with(manifest)
        {
            let (output, path) = (output.display(), directory.path().display());
            return Err(Error::invalid(format!(
                "output: expected a directory outside of the manifest {path}, got {output}"
            )));
        }
        Ok(())
    }
}

/// An image folder's metadata names the images.
fn check_image_columns(columns: Option<&[String]>, row_filter: &RowFilter<'_>) -> Result<()> {
    // What fields JSON Lines have, each line decides.
    let Some(names) = columns else { return Ok(()) };
    if names.iter().any(|name| is_file_name(name)) {
        return Ok(());
    }
    let names = names.join(", ");
    Err(row_filter.bad_manifest(
        ErrorKind::Manifest,
        format!("expected a column `file_name` or `..._file_name`, got {names}"),
    ))
}
