//! Image folders and class folders: the output has the metadata and the images of what is kept.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use std::sync::Arc;

use super::super::{
    ImageFiles, KeyMap, Manifest, ManifestDirectory, ManifestFormat, ManifestSummary, Unscored,
};
use super::even;
use crate::error::{ErrorKind, Result};

struct Folder {
    directory: tempfile::TempDir,
}

impl Folder {
    /// A directory `in` of these files, whose contents are their names, or what follows a `=`.
    fn new(files: &[&str]) -> Self {
        let folder = Self { directory: tempfile::tempdir().unwrap() };
        for file in files {
            let (name, content) = file.split_once('=').unwrap_or((file, file));
            folder.write(name, content.as_bytes());
        }
        folder
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.from().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn from(&self) -> PathBuf {
        self.directory.path().join("in")
    }

    fn to(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    fn filter(&self, manifest: &Manifest) -> Result<ManifestSummary> {
        let directory = ManifestDirectory::open(self.from(), None)?;
        manifest.filter_directory(&even(), directory, Some(&self.to()))
    }

    /// The files of the output, with slashes.
    fn output(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![self.to()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else {
                    let name = path.strip_prefix(self.to()).unwrap();
                    found.push(name.to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        found.sort_unstable();
        found
    }

    #[cfg(unix)]
    fn is_linked(&self, name: &str) -> bool {
        use std::os::unix::fs::MetadataExt;
        let node = |path: PathBuf| fs::metadata(path).unwrap().ino();
        node(self.from().join(name)) == node(self.to().join(name))
    }
}

fn csv() -> Manifest {
    Manifest::new(ManifestFormat::Csv)
}

#[test]
fn kept_images_come_with_their_metadata() {
    let text = "metadata.csv=file_name,text\nimages/0.png,a\nimages/1.png,b\nsub\\2.png,c\n";
    let files = ["images/0.png", "images/1.png", "sub/2.png", "labels.csv=not,asked\n", text];
    let folder = Folder::new(&files);
    let summary = folder.filter(&csv()).unwrap();
    assert_eq!((summary.files, summary.kept), (1, 2));
    assert_eq!(folder.output(), ["images/0.png", "metadata.csv", "sub/2.png"]);
    let kept = fs::read(folder.to().join("metadata.csv")).unwrap();
    assert_eq!(kept, b"file_name,text\nimages/0.png,a\nsub\\2.png,c\n");
    #[cfg(unix)]
    assert!(folder.is_linked("images/0.png"));

    let folder = Folder::new(&files);
    folder.filter(&csv().images(ImageFiles::Copy)).unwrap();
    assert_eq!(folder.output().len(), 3);
    #[cfg(unix)]
    assert!(!folder.is_linked("images/0.png"));
    assert_eq!(fs::read(folder.to().join("sub/2.png")).unwrap(), b"sub/2.png");

    let folder = Folder::new(&files);
    folder.filter(&csv().images(ImageFiles::Leave)).unwrap();
    assert_eq!(folder.output(), ["metadata.csv"]);
    // The others, for whoever looks at what was dropped.
    let folder = Folder::new(&files);
    folder.filter(&csv().rejected(true)).unwrap();
    assert_eq!(folder.output(), ["images/1.png", "metadata.csv"]);
}

#[test]
fn every_format_of_metadata_names_images() {
    let lines = "metadata.jsonl={\"file_name\":\"0.png\"}\n{\"file_name\":\"1.png\"}\n\
                 {\"left_file_name\":\"2.png\",\"file_names\":[\"3.png\",\"4.png\"],\"x\":NaN}\n";
    let images = ["0.png", "1.png", "2.png", "3.png", "4.png"];
    let folder = Folder::new(&[&images[..], &[lines]].concat());
    folder.filter(&Manifest::new(ManifestFormat::Jsonl)).unwrap();
    assert_eq!(folder.output(), ["0.png", "2.png", "3.png", "4.png", "metadata.jsonl"]);

    let folder = Folder::new(&images);
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("0.png"), Some("1.png"), None]));
    let mut lists = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    lists.append_null();
    lists.append_null();
    lists.append_value([Some("3.png"), Some("4.png")]);
    let lists: ListArray = lists.finish();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 2]));
    let rows = RecordBatch::try_from_iter([
        ("id", ids),
        ("file_name", names),
        ("more_file_names", Arc::new(lists) as ArrayRef),
    ])
    .unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    folder.write("metadata.parquet", &writer.into_inner().unwrap());
    folder.filter(&Manifest::new(ManifestFormat::Parquet).key("id")).unwrap();
    assert_eq!(folder.output(), ["0.png", "3.png", "4.png", "metadata.parquet"]);
}

#[test]
fn images_that_are_not_there_are_refused() {
    for (files, expected) in [
        (&["metadata.csv=file_name\n0.png\n"][..], "no image `0.png` in "),
        (
            &["metadata.csv=file_name\n0.png\n", "images.zip"][..],
            "images.zip may hold it: unpack it first",
        ),
        (
            &["metadata.csv=file_name\n../in/0.png\n", "0.png"],
            "expected file names inside the directory, got `../in/0.png`",
        ),
        (&["metadata.csv=name,text\na.png,b\n"], "expected a column `file_name`"),
    ] {
        let folder = Folder::new(files);
        let error = folder.filter(&csv()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::Manifest, "{error}");
        assert!(!folder.to().exists());
    }
}

#[test]
fn image_folders_of_splits_need_a_key() {
    let folder = Folder::new(&[
        "train/metadata.csv=id,mask_file_name\n2,a.png\n3,b.png\n4,c.png\n",
        "test/metadata.csv=id,mask_file_name\n900,a.png\n5,b.png\n",
        "train/a.png",
        "train/c.png",
        "test/a.png",
    ]);
    let manifest = csv().unscored(Unscored::Keep);
    let error = folder.filter(&manifest).unwrap_err();
    assert!(error.to_string().contains("has 2 metadata files"), "{error}");
    let images = ManifestDirectory::image_folder(folder.from()).unwrap();
    assert_eq!(images.files(), [Path::new("test/metadata.csv"), Path::new("train/metadata.csv")]);
    manifest.key("id").filter_directory(&even(), images, Some(&folder.to())).unwrap();
    let text = |split: &str| fs::read_to_string(folder.to().join(split)).unwrap();
    assert_eq!(text("train/metadata.csv"), "id,mask_file_name\n2,a.png\n4,c.png\n");
    assert_eq!(text("test/metadata.csv"), "id,mask_file_name\n900,a.png\n");
    let images = ["test/a.png", "test/metadata.csv", "train/a.png", "train/c.png"];
    assert_eq!(folder.output(), [&images[..], &["train/metadata.csv"]].concat());
    // One split is a folder of its own, whose rows have numbers.
    let (one, split) = (folder.directory.path().join("one"), folder.from().join("train"));
    let split = ManifestDirectory::open(split, None).unwrap();
    csv().filter_directory(&even(), split, Some(&one)).unwrap();
    assert!(one.join("c.png").exists());
    let error = ManifestDirectory::image_folder(one.join("none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn class_folders_keep_their_classes() {
    let images = ["cat/0.jpg", "cat/1.jpg", "dog/sub/2.png", "owl/3.png", "notes.txt", "cat/x.txt"];
    let folder = Folder::new(&images);
    let directory = ManifestDirectory::open(folder.from(), None).unwrap();
    assert_eq!((directory.format(), directory.files().len()), (ManifestFormat::ClassFolders, 4));
    let manifest = Manifest::new(ManifestFormat::ClassFolders);
    let summary = folder.filter(&manifest).unwrap();
    assert_eq!((summary.rows, summary.kept), (4, 2));
    assert_eq!(folder.output(), ["cat/0.jpg", "dog/sub/2.png"]);
    assert!(folder.to().join("owl").is_dir(), "classes keep their numbers");
    #[cfg(unix)]
    assert!(folder.is_linked("cat/0.jpg"));

    // By their paths.
    let folder = Folder::new(&images);
    let map = KeyMap::new([("cat/0.jpg", 1), ("cat/1.jpg", 2), ("owl/3.png", 4)]).unwrap();
    let by_path = manifest.clone().key("path").key_map(map).unscored(Unscored::Prune);
    assert_eq!(folder.filter(&by_path).unwrap().unmapped, 1);
    assert_eq!(folder.output(), ["cat/1.jpg", "owl/3.png"]);

    let folder = Folder::new(&["cat/notes.txt", "archive.zip"]);
    let error = ManifestDirectory::open(folder.from(), Some(manifest.format())).unwrap_err();
    assert!(error.to_string().contains("unpack it first"), "{error}");
    let error = ManifestDirectory::open(folder.from(), None).unwrap_err();
    assert!(error.to_string().contains("unpack it first"), "{error}");
}
