//! Filters all files of a directory into a directory of the same files.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use super::compression::ManifestCompression;
use super::directory::{FILE_NAME, FILE_NAME_SUFFIX, ManifestDirectory};
use super::row_filter::RowFilter;
use super::{KnownColumns, Manifest, ManifestSummary};
use crate::error::{Error, ErrorKind, Result};
use crate::selection::Selection;
use crate::storage::{AtomicDirectory, BackgroundSync};

impl Manifest {
    /// Filters the files of a directory as one manifest: rows are numbered and ids compared over
    /// all of them. Each file is written under its name into a directory that appears only when it
    /// is complete. A file of which no row is kept is written too, with its columns and no rows,
    /// since file names often say how many files there are. Without an output nothing is written,
    /// and the counts are returned.
    ///
    /// Of an image folder, the metadata is filtered. The images stay where they are: a loader needs
    /// them beside the metadata, and loads those that it names.
    ///
    /// # Errors
    ///
    /// As for [`filter`](Self::filter), with the file's name. Also
    /// [`Manifest`](ErrorKind::Manifest) for a file whose columns differ from those of the first,
    /// or an image folder whose metadata names no files;
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
        let whole = directory.path().display().to_string();
        let mut row_filter = RowFilter::new(selection, self, &whole);
        let mut known = KnownColumns::default();
        let draft = output.map(AtomicDirectory::create).transpose()?;
        let mut progress = std::mem::replace(&mut directory.progress, Box::new(|_bytes| {}));
        for name in directory.files() {
            row_filter.start_file(&directory.path().join(name).display().to_string());
            let input = directory.input(name, &mut *progress)?;
            let Some(draft) = &draft else {
                self.filter_one(input, &mut io::sink(), &mut row_filter, &mut known)?;
                continue;
            };
            let place = draft.place(name)?;
            let failed = |error| Error::io("write", &place, error);
            let file = File::create_new(&place).map_err(failed)?;
            let mut writer = BufWriter::with_capacity(1 << 18, BackgroundSync::new(&file));
            let manifest = self.clone().compression(Some(ManifestCompression::from_path(name)));
            manifest.filter_one(input, &mut writer, &mut row_filter, &mut known)?;
            // The rows have flushed it.
            let (early, _) = writer.into_parts();
            early.finish().map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        if directory.is_image_folder() {
            check_image_columns(&known, &row_filter)?;
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
fn check_image_columns(known: &KnownColumns, row_filter: &RowFilter<'_>) -> Result<()> {
    let delimited = known.delimited.as_ref().map(|columns| columns.names().to_vec());
    let columnar = known
        .columnar
        .as_ref()
        .map(|schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>());
    // What fields JSON Lines have, each line decides.
    let Some(names) = delimited.or(columnar) else { return Ok(()) };
    if names.iter().any(|name| name == FILE_NAME || name.ends_with(FILE_NAME_SUFFIX)) {
        return Ok(());
    }
    let names = names.join(", ");
    Err(row_filter.bad_manifest(
        ErrorKind::Manifest,
        format!("expected a column `{FILE_NAME}` or `...{FILE_NAME_SUFFIX}`, got {names}"),
    ))
}
