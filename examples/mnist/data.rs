//! MNIST's four files as something to learn.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::Device;

use crate::experiment::Result;
use crate::experiment::network::Sizes;
use crate::experiment::options::Options;
use crate::experiment::training::Task;
use crate::files::{CLASSES, dataset, part};
use crate::idx::Images;

pub(crate) fn task(options: &Options, device: &Device) -> Result<Task> {
    let directory = options.data.as_deref().unwrap_or(Path::new("."));
    let (train, train_labels) = part(directory, "train")?;
    let (test, test_labels) = part(directory, "t10k")?;
    if (train.rows, train.columns) != (test.rows, test.columns) || train.rows != train.columns {
        let size = |images: &Images| format!("{} x {}", images.rows, images.columns);
        let (train, test) = (size(&train), size(&test));
        return Err(format!("expected square images of one size, got {train} and {test}").into());
    }
    let manifest = options.experiment.join("manifest.csv");
    write_manifest(&manifest, &train_labels)?;
    Ok(Task {
        name: "images",
        examples: train_labels.len() as u64,
        width: train.columns,
        sizes: Sizes { pixels: train.rows * train.columns, hidden: 128, classes: CLASSES },
        train: dataset(&train, &train_labels, device)?,
        test: dataset(&test, &test_labels, device)?,
        batch: 128,
        learning_rate: 1e-3,
        manifest,
        manifest_lists_test: false,
    })
}

/// IDX files cannot be filtered line by line; this table can.
fn write_manifest(path: &Path, labels: &[u8]) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "id,label")?;
        labels.iter().enumerate().try_for_each(|(id, label)| writeln!(file, "{id},{label}"))?;
        file.flush()
    };
    Ok(write().map_err(|error| format!("cannot write {}: {error}", path.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idx::tests::{images_file, labels_file};

    const NAMES: [&str; 4] = [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ];

    /// Three images to train on, two to test on, of 4 x 4 pixels.
    fn files(directory: &Path) -> Options {
        let contents = [
            images_file(3, 4, 4),
            labels_file(&[7, 0, 9]),
            images_file(2, 4, 4),
            labels_file(&[1, 2]),
        ];
        for (name, contents) in NAMES.iter().zip(contents) {
            fs::write(directory.join(name), contents).unwrap();
        }
        Options {
            experiment: directory.join("run"),
            data: Some(directory.to_path_buf()),
            ..crate::defaults()
        }
    }

    #[test]
    fn a_task_is_made_of_four_files() {
        let directory = tempfile::tempdir().unwrap();
        let options = files(directory.path());
        let task = task(&options, &Device::Cpu).unwrap();
        assert_eq!((task.train.ids(), task.test.ids()), (&[0, 1, 2][..], &[0, 1][..]));
        assert_eq!(task.train.labels().to_vec1::<u32>().unwrap(), [7, 0, 9]);
        let images: Vec<Vec<f32>> = task.train.inputs().to_vec2().unwrap();
        assert_eq!(images[2][15], 47.0 / 255.0);
        let manifest = fs::read_to_string(&task.manifest).unwrap();
        assert_eq!(manifest, "id,label\n0,7\n1,0\n2,9\n");
    }

    #[test]
    fn files_that_do_not_fit_together_are_refused() {
        let cases: [(usize, Option<Vec<u8>>, &str); 4] = [
            (2, None, "no file t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz in "),
            (1, Some(labels_file(&[1, 2])), "3 images in "),
            (1, Some(labels_file(&[1, 10, 2])), "label 1: expected 0 to 9, got 10"),
            (2, Some(images_file(2, 4, 5)), "square images of one size, got 4 x 4 and 4 x 5"),
        ];
        for (file, contents, expected) in cases {
            let directory = tempfile::tempdir().unwrap();
            let options = files(directory.path());
            let path = directory.path().join(NAMES[file]);
            match contents {
                Some(contents) => fs::write(path, contents).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let error = task(&options, &Device::Cpu).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
