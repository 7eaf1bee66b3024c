//! The data: images with their true labels, or with some wrong ones.

use candle_core::{Device, Tensor};
use data_diet::selection::{ExampleSet, LabelNoise};

use super::Result;
use super::dataset::{Batch, Dataset};
use super::digits::{self, Digits};
use super::files;
use super::network::Sizes;
use super::options::Options;

/// The seed by which labels are spoiled.
const NOISE_SEED: u64 = 0;

/// A data set whose ids are row numbers.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    /// `clean` or `noisy`, which is also the name of its experiment.
    pub(crate) name: &'static str,
    pub(crate) set: Dataset,
    pub(crate) sizes: Sizes,
    labels: Vec<u32>,
    /// Which labels are wrong on purpose.
    wrong: Vec<bool>,
}

/// The digits that come with the examples, or MNIST's training images.
pub(crate) fn load(options: &Options) -> Result<Data> {
    let (set, pixels) = match &options.mnist {
        None => {
            let digits = Digits::parse(digits::DIGITS)?;
            let ids: Vec<i64> = (0..digits.len() as i64).take(options.examples).collect();
            (digits.dataset(&ids, &Device::Cpu)?, digits::PIXELS)
        }
        Some(directory) => {
            let (mut images, mut labels) = files::part(directory, "train")?;
            let pixels = images.rows * images.columns;
            labels.truncate(options.examples);
            images.pixels.truncate(labels.len() * pixels);
            (files::dataset(&images, &labels, &Device::Cpu)?, pixels)
        }
    };
    // As in the paper. What all images have in common would dominate every kernel.
    let set = set.standardized()?;
    let labels: Vec<u32> = set.labels().to_vec1()?;
    let wrong = vec![false; labels.len()];
    let sizes = Sizes { pixels, hidden: options.hidden, classes: digits::CLASSES };
    Ok(Data { name: "clean", set, sizes, labels, wrong })
}

impl Data {
    /// The same images, a share of them with the label of another class.
    pub(crate) fn with_noise(&self, share: f64) -> Result<Self> {
        let noise = LabelNoise::symmetric(share, NOISE_SEED);
        let noisy = noise.apply(&self.labels, self.sizes.classes)?;
        let labels = Tensor::new(noisy.labels(), self.set.inputs().device())?;
        Ok(Self {
            name: "noisy",
            set: self.set.with_labels(labels),
            sizes: self.sizes,
            labels: noisy.labels().to_vec(),
            wrong: noisy.noisy().to_vec(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The number of labels that are wrong on purpose.
    pub(crate) fn wrong(&self) -> usize {
        self.wrong.iter().filter(|&&wrong| wrong).count()
    }

    /// The examples of a set.
    pub(crate) fn of(&self, set: &ExampleSet) -> Result<Batch> {
        self.set.batch(&set.rows(self.len() as u32)?)
    }

    /// The share of a set's labels that are wrong on purpose.
    pub(crate) fn wrong_share(&self, set: &ExampleSet) -> Result<f64> {
        let rows = set.rows(self.len() as u32)?;
        let wrong = rows.iter().filter(|&&row| self.wrong[row as usize]).count();
        Ok(wrong as f64 / rows.len() as f64)
    }
}
