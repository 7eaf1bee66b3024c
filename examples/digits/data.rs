//! The digits in `digits.csv`, and their split into training and test set.

use candle_core::Device;
use data_diet::selection::ScoreColumn;
use data_diet::{Amount, Rule};

use super::Result;
use super::dataset::Dataset;

/// One image per line: 64 pixels of 0 to 16, row by row, and the label.
pub(crate) const DIGITS: &str = include_str!("digits.csv");
pub(crate) const WIDTH: usize = 8;
pub(crate) const PIXELS: usize = WIDTH * WIDTH;
pub(crate) const CLASSES: usize = 10;
/// The seed of the split in `manifest.csv`.
pub(crate) const SPLIT_SEED: u64 = 0;
const TEST_EXAMPLES: usize = 500;
const DARKEST: f32 = 16.0;

/// All images and labels; an example's id is its row number in the original file.
#[derive(Debug)]
pub(crate) struct Digits {
    images: Vec<[f32; PIXELS]>,
    labels: Vec<u32>,
}

impl Digits {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let (image, label) =
                parse_line(line).map_err(|error| format!("digits.csv, line {number}: {error}"))?;
            images.push(image);
            labels.push(label);
        }
        Ok(Self { images, labels })
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Ids of the training and of the test set, both ascending. The library's random selection is
    /// the same on every machine and in every release.
    pub(crate) fn split(&self, seed: u64) -> Result<(Vec<i64>, Vec<i64>)> {
        let ids: Vec<i64> = (0..self.len() as i64).collect();
        let labels = self.labels.iter().map(|&label| label as i32).collect();
        let all = ScoreColumn::new(ids.clone(), labels, vec![0.0; self.len()])?;
        let test = all.select(Rule::Random { amount: Amount::Count(TEST_EXAMPLES), seed })?;
        Ok(ids.into_iter().partition(|&id| !test.contains(id)))
    }

    pub(crate) fn dataset(&self, ids: &[i64], device: &Device) -> Result<Dataset> {
        let images = ids.iter().flat_map(|&id| self.images[id as usize]).collect();
        let labels = ids.iter().map(|&id| self.labels[id as usize]).collect();
        Dataset::new(ids.to_vec(), images, labels, device)
    }
}

fn parse_line(line: &str) -> Result<([f32; PIXELS], u32), String> {
    let fields: Vec<&str> = line.split(',').collect();
    let [pixels @ .., label] = fields.as_slice() else { return Err("is empty".to_owned()) };
    if pixels.len() != PIXELS {
        return Err(format!("expected {PIXELS} pixels and a label, got {} fields", fields.len()));
    }
    let mut image = [0.0; PIXELS];
    for (place, (ink, text)) in image.iter_mut().zip(pixels).enumerate() {
        let value = text.parse::<u8>().ok().filter(|&value| f32::from(value) <= DARKEST);
        let value =
            value.ok_or_else(|| format!("pixel {place}: expected 0 to 16, got `{text}`"))?;
        *ink = f32::from(value) / DARKEST;
    }
    let value = label.parse::<u32>().ok().filter(|&label| (label as usize) < CLASSES);
    let label = value.ok_or_else(|| format!("label: expected 0 to 9, got `{label}`"))?;
    Ok((image, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pixel: &str, pixels: usize, label: &str) -> String {
        let mut fields = vec!["0"; pixels];
        fields[0] = pixel;
        fields.push(label);
        fields.join(",")
    }

    #[test]
    fn the_shipped_digits_are_those_of_scikit_learn() {
        let digits = Digits::parse(DIGITS).unwrap();
        assert_eq!(digits.len(), 1797);
        // load_digits(): numpy.bincount(target), data.sum(), data[1796] @ numpy.arange(64)
        let mut counts = [0; CLASSES];
        digits.labels.iter().for_each(|&label| counts[label as usize] += 1);
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let ink = |image: &[f32; PIXELS]| image.iter().map(|&ink| f64::from(ink * DARKEST)).sum();
        let sums: Vec<f64> = digits.images.iter().map(ink).collect();
        assert_eq!(sums.iter().sum::<f64>(), 561_718.0);
        let moment = |image: &[f32; PIXELS]| -> f64 {
            image.iter().enumerate().map(|(at, &ink)| at as f64 * f64::from(ink * DARKEST)).sum()
        };
        assert_eq!(moment(&digits.images[1796]), 13290.0);
    }

    #[test]
    fn bad_lines_are_named() {
        assert!(Digits::parse(&line("16", 64, "9")).is_ok());
        for (line, expected) in [
            (line("17", 64, "9"), "digits.csv, line 2: pixel 0: expected 0 to 16, got `17`"),
            (line("-1", 64, "9"), "digits.csv, line 2: pixel 0: expected 0 to 16, got `-1`"),
            (line("1", 64, "10"), "digits.csv, line 2: label: expected 0 to 9, got `10`"),
            (line("1", 64, ""), "digits.csv, line 2: label: expected 0 to 9, got ``"),
            (
                line("1", 63, "9"),
                "digits.csv, line 2: expected 64 pixels and a label, got 64 fields",
            ),
            (String::new(), "digits.csv, line 2: expected 64 pixels and a label, got 1 fields"),
        ] {
            let text = format!("{}\n{line}\n", self::line("0", 64, "0"));
            assert_eq!(Digits::parse(&text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_manifest_shows_the_division() {
        let digits = Digits::parse(DIGITS).unwrap();
        let (train, test) = digits.split(SPLIT_SEED).unwrap();
        assert_eq!((train.len(), test.len()), (1297, 500));
        let line = |(id, label): (usize, &u32)| {
            let split = if test.contains(&(id as i64)) { "test" } else { "train" };
            format!("{id},{label},{split}")
        };
        let heading = std::iter::once("id,label,split".to_owned());
        let expected = heading.chain(digits.labels.iter().enumerate().map(line));
        assert!(include_str!("manifest.csv").lines().eq(expected), "another division");
        assert_ne!(digits.split(SPLIT_SEED + 1).unwrap(), (train, test));
    }
}
