//! A data set on its device, and its batches. Every example carries its id through shuffling and
//! pruning: the id is what ties a recorded row to what it came from.

use candle_core::{Device, Tensor};
use data_diet::selection::Selection;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::Result;

/// Inputs and labels whose first dimension is the example, and ids: images `[examples, pixels]` in 0
/// to 1 with labels `[examples]`, or tokens with as many labels.
#[derive(Clone, Debug)]
pub(crate) struct Dataset {
    ids: Vec<i64>,
    inputs: Tensor,
    labels: Tensor,
}

/// Some examples of a data set.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) ids: Vec<i64>,
    /// `[batch, pixels]` or `[batch, tokens]`.
    pub(crate) inputs: Tensor,
    /// Class indices: `[batch]`, or `[batch, tokens]`.
    pub(crate) labels: Tensor,
}

impl Dataset {
    /// One row of pixels and one label for each id.
    pub(crate) fn new(
        ids: Vec<i64>,
        images: Vec<f32>,
        labels: Vec<u32>,
        device: &Device,
    ) -> Result<Self> {
        let (examples, values) = (ids.len(), images.len());
        let images = Tensor::from_vec(images, (examples, values / examples.max(1)), device)?;
        let labels = Tensor::from_vec(labels, examples, device)?;
        Self::of_tensors(ids, images, labels)
    }

    /// Tensors with one row for each id.
    pub(crate) fn of_tensors(ids: Vec<i64>, inputs: Tensor, labels: Tensor) -> Result<Self> {
        let rows = (inputs.dim(0)?, labels.dim(0)?);
        if rows != (ids.len(), ids.len()) {
            return Err(format!("expected {} inputs and labels, got {rows:?}", ids.len()).into());
        }
        Ok(Self { ids, inputs, labels })
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// `[examples, pixels]` or `[examples, tokens]`.
    pub(crate) fn inputs(&self) -> &Tensor {
        &self.inputs
    }

    /// `[examples]` or `[examples, tokens]`.
    pub(crate) fn labels(&self) -> &Tensor {
        &self.labels
    }

    /// The same examples with other labels, `[examples]`.
    #[allow(dead_code, reason = "not every example spoils labels")]
    pub(crate) fn with_labels(&self, labels: Tensor) -> Self {
        Self { labels, ..self.clone() }
    }

    /// The same images with all pixels of all of them at mean 0 and standard deviation 1.
    #[allow(dead_code, reason = "not every example asks how alike gradients are")]
    pub(crate) fn standardized(&self) -> Result<Self> {
        let mean = f64::from(self.inputs.mean_all()?.to_scalar::<f32>()?);
        let centred = (&self.inputs - mean)?;
        let variance = f64::from(centred.sqr()?.mean_all()?.to_scalar::<f32>()?);
        if variance == 0.0 {
            return Err("images: expected more than one shade, got none".into());
        }
        Ok(Self { inputs: (centred / variance.sqrt())?, ..self.clone() })
    }

    /// One example, copied: reading a view of a large tensor from a GPU would bring all of it along.
    pub(crate) fn example(&self, id: i64) -> Result<Batch> {
        let row = self.ids.iter().position(|&other| other == id);
        self.batch(&[row.ok_or_else(|| format!("no example {id} in the data set"))? as u32])
    }

    /// The examples that a selection keeps.
    pub(crate) fn keep(&self, selection: &Selection) -> Result<Self> {
        let rows = 0..self.len() as u32;
        let kept: Vec<u32> =
            rows.filter(|&row| selection.contains(self.ids[row as usize])).collect();
        let Batch { ids, inputs, labels } = self.batch(&kept)?;
        Ok(Self { ids, inputs, labels })
    }

    /// Every example once, in random order; the last batch may be smaller.
    pub(crate) fn shuffled(
        &self,
        size: usize,
        random: &mut StdRng,
    ) -> impl Iterator<Item = Result<Batch>> {
        let mut rows: Vec<u32> = (0..self.len() as u32).collect();
        rows.shuffle(random);
        self.batches(rows, size)
    }

    /// Every example once, in the order of the data set.
    pub(crate) fn in_order(&self, size: usize) -> impl Iterator<Item = Result<Batch>> {
        self.batches((0..self.len() as u32).collect(), size)
    }

    fn batches(&self, rows: Vec<u32>, size: usize) -> impl Iterator<Item = Result<Batch>> {
        (0..rows.len())
            .step_by(size)
            .map(move |start| self.batch(&rows[start..rows.len().min(start + size)]))
    }

    /// Some rows.
    pub(crate) fn batch(&self, rows: &[u32]) -> Result<Batch> {
        let ids = rows.iter().map(|&row| self.ids[row as usize]).collect();
        let rows = Tensor::new(rows, self.inputs.device())?;
        let inputs = self.inputs.index_select(&rows, 0)?;
        let labels = self.labels.index_select(&rows, 0)?;
        Ok(Batch { ids, inputs, labels })
    }
}

#[cfg(test)]
mod tests {
    use data_diet::selection::ScoreColumn;
    use data_diet::{Amount, Rule};
    use rand::SeedableRng;

    use super::*;

    /// Image `i` is `[i, -i]`, its label `i`, its id `10 * i`.
    fn dataset(examples: u8) -> Dataset {
        let ids = (0..examples).map(|i| i64::from(i) * 10).collect();
        let images = (0..examples).flat_map(|i| [f32::from(i), -f32::from(i)]).collect();
        let labels = (0..examples).map(u32::from).collect();
        Dataset::new(ids, images, labels, &Device::Cpu).unwrap()
    }

    fn check(batch: &Batch) {
        let images: Vec<Vec<f32>> = batch.inputs.to_vec2().unwrap();
        let labels: Vec<u32> = batch.labels.to_vec1().unwrap();
        assert_eq!((images.len(), labels.len()), (batch.ids.len(), batch.ids.len()));
        for ((id, image), label) in batch.ids.iter().zip(images).zip(labels) {
            let number = (id / 10) as f32;
            assert_eq!((image, label), (vec![number, -number], number as u32));
        }
    }

    #[test]
    fn a_shuffled_pass_sees_every_example_once_and_keeps_rows_together() {
        let dataset = dataset(10);
        let mut random = StdRng::seed_from_u64(1);
        let batches: Vec<Batch> = dataset.shuffled(4, &mut random).collect::<Result<_>>().unwrap();
        assert_eq!(batches.iter().map(|batch| batch.ids.len()).collect::<Vec<_>>(), [4, 4, 2]);
        batches.iter().for_each(check);
        let mut ids: Vec<i64> = batches.into_iter().flat_map(|batch| batch.ids).collect();
        assert_ne!(ids, dataset.ids());
        ids.sort_unstable();
        assert_eq!(ids, dataset.ids());
    }

    #[test]
    fn what_is_kept_keeps_its_ids() {
        let scores = ScoreColumn::new(vec![0, 10, 20, 30], vec![0; 4], vec![0.4, 0.1, 0.3, 0.2]);
        let kept = scores.unwrap().select(Rule::Highest(Amount::Count(2))).unwrap();
        let pruned = dataset(4).keep(&kept).unwrap();
        assert_eq!(pruned.ids(), [0, 20]);
        pruned.in_order(8).for_each(|batch| check(&batch.unwrap()));
        let example = pruned.example(20).unwrap();
        assert_eq!(example.ids, [20]);
        check(&example);
        assert!(pruned.example(10).is_err());
    }
}
