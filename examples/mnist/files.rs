//! MNIST's files, two by two: images, and the labels that belong to them.

use std::path::{Path, PathBuf};

use candle_core::Device;

use super::Result;
use super::dataset::Dataset;
use super::idx::{Images, read_images, read_labels};

pub(crate) const CLASSES: usize = 10;

/// Images and labels of `train` or `t10k`.
pub(crate) fn part(directory: &Path, name: &str) -> Result<(Images, Vec<u8>)> {
    let images_path = find(directory, &format!("{name}-images-idx3-ubyte"))?;
    let labels_path = find(directory, &format!("{name}-labels-idx1-ubyte"))?;
    let (images, labels) = (read_images(&images_path)?, read_labels(&labels_path)?);
    if images.len() != labels.len() {
        return Err(format!(
            "{} images in {} but {} labels in {}",
            images.len(),
            images_path.display(),
            labels.len(),
            labels_path.display()
        )
        .into());
    }
    if let Some(place) = labels.iter().position(|&label| usize::from(label) >= CLASSES) {
        let (path, label) = (labels_path.display(), labels[place]);
        return Err(format!("{path}: label {place}: expected 0 to 9, got {label}").into());
    }
    Ok((images, labels))
}

fn find(directory: &Path, name: &str) -> Result<PathBuf> {
    let candidates = [name.to_owned(), format!("{name}.gz")].map(|name| directory.join(name));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let directory = directory.display();
        format!("no file {name} or {name}.gz in {directory}; --help says how to get it").into()
    })
}

/// An example's id is its row number in its file.
pub(crate) fn dataset(images: &Images, labels: &[u8], device: &Device) -> Result<Dataset> {
    let ids = (0..labels.len() as i64).collect();
    let pixels = images.pixels.iter().map(|&ink| f32::from(ink) / 255.0).collect();
    Dataset::new(ids, pixels, labels.iter().map(|&label| label.into()).collect(), device)
}
