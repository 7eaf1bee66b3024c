//! The digits: an example's id is its row number.

use candle_core::{Device, Tensor};
use data_diet::ExampleSet;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::Result;

const TEXT: &str = include_str!("../digits/digits.csv");
pub(crate) const PIXELS: usize = 64;
pub(crate) const CLASSES: usize = 10;
const DARKEST: f32 = 16.0;

/// Images `[examples, pixels]` in 0 to 1, and their labels.
#[derive(Clone, Debug)]
pub(crate) struct Digits {
    images: Tensor,
    pub(crate) labels: Vec<u32>,
}

impl Digits {
    /// The first `most` of them.
    pub(crate) fn load(most: usize) -> Result<Self> {
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for line in TEXT.lines().take(most) {
            let mut fields: Vec<u32> = Vec::with_capacity(PIXELS + 1);
            for field in line.split(',') {
                fields.push(field.parse()?);
            }
            labels.push(fields.pop().ok_or("digits.csv: a line is empty")?);
            images.extend(fields.iter().map(|&ink| ink as f32 / DARKEST));
        }
        let images = Tensor::from_vec(images, (labels.len(), PIXELS), &Device::Cpu)?;
        Ok(Self { images, labels })
    }

    /// The same images with other labels.
    pub(crate) fn with_labels(&self, labels: &[u32]) -> Self {
        Self { images: self.images.clone(), labels: labels.to_vec() }
    }

    pub(crate) fn steps_per_epoch(&self, batch: usize) -> u64 {
        self.labels.len().div_ceil(batch) as u64
    }

    /// Every row number once, in random order, batch by batch.
    pub(crate) fn shuffled(&self, batch: usize, random: &mut StdRng) -> Vec<Vec<u32>> {
        let mut rows: Vec<u32> = (0..self.labels.len() as u32).collect();
        rows.shuffle(random);
        rows.chunks(batch).map(<[u32]>::to_vec).collect()
    }

    /// Images and labels of some rows.
    pub(crate) fn batch(&self, rows: &[u32]) -> Result<(Tensor, Tensor)> {
        let labels: Vec<u32> = rows.iter().map(|&row| self.labels[row as usize]).collect();
        let device = self.images.device();
        let images = self.images.index_select(&Tensor::new(rows, device)?, 0)?;
        Ok((images, Tensor::new(labels, device)?))
    }

    pub(crate) fn images_of(&self, set: &ExampleSet) -> Result<Tensor> {
        Ok(self.batch(&set.rows(self.labels.len() as u32)?)?.0)
    }

    pub(crate) fn labels_of(&self, set: &ExampleSet) -> Result<Vec<u32>> {
        let rows = set.rows(self.labels.len() as u32)?;
        Ok(rows.iter().map(|&row| self.labels[row as usize]).collect())
    }
}
