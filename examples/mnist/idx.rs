//! The IDX format that MNIST comes in: a magic number that names the type and the number of
//! dimensions, their sizes, and the values, all big-endian. Plain or gzipped.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::Result;

/// Unsigned bytes in three dimensions.
const IMAGES: u32 = 0x0000_0803;
/// Unsigned bytes in one dimension.
const LABELS: u32 = 0x0000_0801;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Grey images of one size, row by row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Images {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) pixels: Vec<u8>,
}

impl Images {
    pub(crate) fn len(&self) -> usize {
        self.pixels.len() / (self.rows * self.columns)
    }
}

pub(crate) fn read_images(path: &Path) -> Result<Images> {
    let ([_, rows, columns], pixels) = read(path, IMAGES, "images")?;
    Ok(Images { rows, columns, pixels })
}

pub(crate) fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let ([_], labels) = read(path, LABELS, "labels")?;
    Ok(labels)
}

/// The sizes of the dimensions, none of them zero, and exactly as many values.
fn read<const DIMENSIONS: usize>(
    path: &Path,
    magic: u32,
    what: &str,
) -> Result<([usize; DIMENSIONS], Vec<u8>)> {
    let failed = |message: String| format!("{}: {message}", path.display());
    let bytes = read_bytes(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let (header, values) = bytes
        .split_at_checked(4 * (DIMENSIONS + 1))
        .ok_or_else(|| failed(format!("ends after {} bytes, within the header", bytes.len())))?;
    let mut numbers = header
        .chunks_exact(4)
        .map(|bytes| bytes.iter().fold(0, |number: u32, &byte| number << 8 | u32::from(byte)));
    let got = numbers.next().unwrap_or(0);
    if got != magic {
        let message = format!("is not an IDX file of {what}: magic {magic:#010x}, got {got:#010x}");
        return Err(failed(message).into());
    }
    let mut sizes = [0; DIMENSIONS];
    sizes.iter_mut().zip(numbers).for_each(|(size, number)| *size = number as usize);
    let expected = sizes.iter().try_fold(1, |product: usize, &size| product.checked_mul(size));
    match expected {
        Some(0) => Err(failed(format!("holds no {what}: its sizes are {sizes:?}")).into()),
        Some(expected) if expected == values.len() => Ok((sizes, values.to_vec())),
        _ => {
            let got = values.len();
            let end =
                if expected.is_some_and(|expected| got > expected) { "goes on" } else { "ends" };
            let message =
                format!("sizes {sizes:?} promise another length: it {end} at {got} values");
            Err(failed(message).into())
        }
    }
}

fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    if !bytes.starts_with(&GZIP) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain)?;
    Ok(plain)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Pixel `i` of the file is `i`.
    pub(crate) fn images_file(images: u32, rows: u32, columns: u32) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3];
        bytes.extend([images, rows, columns].iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend((0..images * rows * columns).map(|pixel| pixel as u8));
        bytes
    }

    pub(crate) fn labels_file(labels: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 1];
        bytes.extend((labels.len() as u32).to_be_bytes());
        bytes.extend(labels);
        bytes
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn with_file<T>(bytes: &[u8], read: impl Fn(&Path) -> Result<T>) -> Result<T> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        read(file.path())
    }

    #[test]
    fn plain_and_gzipped_files_read_alike() {
        let images = Images { rows: 2, columns: 3, pixels: (0..24).collect() };
        assert_eq!(images.len(), 4);
        let file = images_file(4, 2, 3);
        assert_eq!(with_file(&file, read_images).unwrap(), images);
        assert_eq!(with_file(&gzipped(&file), read_images).unwrap(), images);
        let file = labels_file(&[5, 0, 4]);
        assert_eq!(with_file(&file, read_labels).unwrap(), [5, 0, 4]);
        assert_eq!(with_file(&gzipped(&file), read_labels).unwrap(), [5, 0, 4]);
    }

    #[test]
    fn bad_files_are_refused_with_the_reason() {
        let good = images_file(4, 2, 3);
        let huge = [&[0, 0, 8, 3], &[0xff; 12][..], &[0; 24]].concat();
        for (bytes, expected) in [
            (vec![], "ends after 0 bytes, within the header"),
            (good[..15].to_vec(), "ends after 15 bytes, within the header"),
            (labels_file(&[0; 16]), "magic 0x00000803, got 0x00000801"),
            (b"<html>not found</html>".to_vec(), "magic 0x00000803, got 0x3c68746d"),
            (good[..39].to_vec(), "sizes [4, 2, 3] promise another length: it ends at 23 values"),
            ([&good[..], &[0]].concat(), "another length: it goes on at 25 values"),
            (huge, "another length: it ends at 24 values"),
            (images_file(4, 0, 3), "holds no images: its sizes are [4, 0, 3]"),
            (gzipped(&good)[..20].to_vec(), "cannot be read: "),
        ] {
            let error = with_file(&bytes, read_images).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        for file in [images_file(2, 2, 2), gzipped(&images_file(2, 2, 2))] {
            for end in 0..file.len() {
                assert!(with_file(&file[..end], read_images).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_labels(Path::new("no/such/file")).unwrap_err().to_string();
        assert!(error.starts_with("no/such/file: cannot be read: "), "{error}");
    }
}
