//! Batches that are taken in pieces: the norms are those of single examples however a batch is cut,
//! and whatever the pieces look like to a layer.

use std::cell::RefCell;

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use data_diet_candle::gradients::{GradientNorms, Inputs};
use data_diet_candle::nn::{self, Conv2dConfig};
use proptest::prelude::*;

use crate::reference::{Random, close, cross_entropies, per_example, randomize, relative_error};

fn builder(map: &VarMap, dtype: DType) -> VarBuilder<'static> {
    VarBuilder::from_varmap(map, dtype, &Device::Cpu)
}

/// A convolution, whose outputs are larger than its weights, and a linear layer.
struct Images {
    map: VarMap,
    conv: nn::Conv2d,
    output: nn::Linear,
}

impl Images {
    fn new(dtype: DType, seed: u64) -> Self {
        let map = VarMap::new();
        let vb = builder(&map, dtype);
        let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        let conv = nn::conv2d(1, 8, 3, config, vb.pp("conv")).unwrap();
        let output = nn::linear(8, 3, vb.pp("output")).unwrap();
        randomize(&map, seed);
        Self { map, conv, output }
    }

    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        // Smooth: at a kink, rounding alone would decide which way an activation goes.
        self.output.forward(&self.conv.forward(images)?.tanh()?.mean((2, 3))?)
    }

    /// By candle's own operations.
    fn reference(&self, images: &Tensor) -> Result<Tensor> {
        let bias = self.conv.bias().unwrap().reshape((8, 1, 1))?;
        let hidden = images.conv2d(self.conv.weight(), 1, 1, 1, 1)?.broadcast_add(&bias)?.tanh()?;
        let output = hidden.mean((2, 3))?.matmul(&self.output.weight().t()?)?;
        output.broadcast_add(self.output.bias().unwrap())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Images so large that the caches hold a few: at first eight of them are tried.
    #[test]
    fn norms_do_not_depend_on_the_pieces(
        batch in 1_usize..=20, side in prop::sample::select(vec![8_usize, 64, 120]),
        seed in any::<u64>(),
    ) {
        let wide = Images::new(DType::F64, seed);
        let images = Random(seed ^ 1).tensor(&[batch, 1, side, side], DType::F32);
        let labels = Random(seed ^ 2).indices(batch, 3);
        let expected = per_example(&wide.map, &images.to_dtype(DType::F64).unwrap(), |image, row| {
            cross_entropies(&wide.reference(image)?, &labels[row..=row])
        });
        let model = Images::new(DType::F32, seed);
        let sizes = RefCell::new(Vec::new());
        let forward = |images: &Tensor| {
            sizes.borrow_mut().push(images.dim(0)?);
            model.forward(images)
        };
        let mut norms = GradientNorms::new(&model.map).unwrap().check(0);
        for round in 0..2 {
            let got = norms.cross_entropy(&images, &labels, forward).unwrap();
            prop_assert!(got.report.is_batched(), "{}", got.report);
            close(&got.values, &expected, "pieces")?;
            let sizes = sizes.take();
            prop_assert_eq!(sizes.iter().sum::<usize>(), batch);
            let most = sizes.iter().copied().max().unwrap_or(0);
            if side == 120 && round > 0 {
                // 450 KiB of the convolution's output each.
                prop_assert_eq!(most, 1);
            }
            prop_assert!(most <= 8 || side == 8, "{sizes:?}");
        }
    }
}

/// All kinds of inputs, and losses of one's own, whose targets are cut alike.
#[test]
fn inputs_and_targets_are_cut_alike() {
    let map = VarMap::new();
    let vb = builder(&map, DType::F32);
    let [first, second] = ["first", "second"].map(|name| nn::linear(4, 3, vb.pp(name)).unwrap());
    randomize(&map, 1);
    let batch = 21;
    let [a, b] = [2, 3].map(|seed| Random(seed).tensor(&[batch, 4], DType::F32));
    let targets = Random(4).tensor(&[batch, 3], DType::F32);
    let forward = |a: &Tensor, b: &Tensor| first.forward(a)? * second.forward(b)?;
    let loss = |output: &Tensor, targets: &Tensor| (output - targets)?.sqr()?.sum(1);
    let expected: Vec<f64> = per_example(&map, &a, |a, row| {
        loss(&forward(a, &b.narrow(0, row, 1)?)?, &targets.narrow(0, row, 1)?)
    });
    let norms = GradientNorms::new(&map).unwrap();
    let [mut pairs, mut arrays, mut vectors, mut triples] = [(); 4].map(|()| norms.clone());
    let pair = (a.clone(), b.clone());
    let array = [a.clone(), b.clone()];
    let triple = (a.clone(), b.clone(), a.clone());
    let all = [
        pairs.custom_loss(&pair, &targets, |(a, b)| forward(a, b), loss),
        arrays.custom_loss(&array, &targets, |[a, b]| forward(a, b), loss),
        vectors.custom_loss(&array.to_vec(), &targets, |both| forward(&both[0], &both[1]), loss),
        triples.custom_loss(&triple, &targets, |(a, b, _)| forward(a, b), loss),
    ];
    for got in all {
        let got = got.unwrap();
        assert!(relative_error(&got.values, &expected) < 1e-5, "{:?}", got.values);
    }
}

/// Inputs of one's own that say nothing of parts.
#[derive(Clone)]
struct Whole(Tensor);

impl Inputs for Whole {
    fn examples(&self) -> data_diet_candle::Result<usize> {
        self.0.examples()
    }

    fn example(&self, row: usize) -> data_diet_candle::Result<Self> {
        self.0.example(row).map(Self)
    }
}

#[test]
fn inputs_without_parts_are_taken_whole() {
    let model = Images::new(DType::F32, 1);
    let images = Random(2).tensor(&[20, 1, 8, 8], DType::F32);
    let labels = Random(3).indices(20, 3);
    let cut = GradientNorms::new(&model.map).unwrap();
    let mut whole = cut.clone();
    let expected = cut.clone().cross_entropy(&images, &labels, |x| model.forward(x)).unwrap();
    let sizes = RefCell::new(Vec::new());
    let got = whole.cross_entropy(&Whole(images), &labels, |Whole(images)| {
        sizes.borrow_mut().push(images.dim(0)?);
        model.forward(images)
    });
    let expected: Vec<f64> = expected.values.into_iter().map(f64::from).collect();
    assert!(relative_error(&got.unwrap().values, &expected) < 1e-6);
    // The batch, and two examples that are looked at alone.
    assert_eq!(sizes.into_inner(), [20, 1, 1]);
}

/// The forward pass holds a scale for every example of the batch.
#[test]
fn batches_are_kept_whole_if_asked() {
    let model = Images::new(DType::F32, 1);
    let images = Random(2).tensor(&[20, 1, 8, 8], DType::F32);
    let labels = Random(3).indices(20, 3);
    let scales = Random(4).tensor(&[20, 1, 1, 1], DType::F32);
    let scaled = images.broadcast_mul(&scales).unwrap();
    let norms = GradientNorms::new(&model.map).unwrap().check(0);
    let expected = norms.clone().cross_entropy(&scaled, &labels, |x| model.forward(x)).unwrap();
    let forward = |images: &Tensor| model.forward(&(images.broadcast_mul(&scales))?);
    assert!(norms.clone().cross_entropy(&images, &labels, forward).is_err());
    let got = norms.whole_batches().cross_entropy(&images, &labels, forward).unwrap();
    let expected: Vec<f64> = expected.values.into_iter().map(f64::from).collect();
    assert!(relative_error(&got.values, &expected) < 1e-6);
}

/// A layer gets positions first and examples second, and as many positions as a piece has examples.
/// Seen to be wrong for a piece, it is right for the batch, which is no multiple.
#[test]
fn pieces_that_look_like_what_they_are_not_are_joined() {
    let map = VarMap::new();
    let layer = nn::linear(4, 5, builder(&map, DType::F32).pp("layer")).unwrap();
    let output = nn::linear(5, 3, builder(&map, DType::F32).pp("output")).unwrap();
    randomize(&map, 3);
    let forward = |x: &Tensor| {
        let positions_first = x.transpose(0, 1)?.contiguous()?;
        output.forward(&layer.forward(&positions_first)?.tanh()?.sum(0)?)
    };
    // Twelve are taken six by six.
    let inputs = Random(4).tensor(&[12, 6, 4], DType::F32);
    let labels = Random(5).indices(12, 3);
    let expected = per_example(&map, &inputs, |input, row| {
        cross_entropies(&forward(input)?, &labels[row..=row])
    });
    let mut norms = GradientNorms::new(&map).unwrap();
    for _ in 0..2 {
        let got = norms.cross_entropy(&inputs, &labels, forward).unwrap();
        assert!(relative_error(&got.values, &expected) < 1e-5, "{:?}", got.values);
        assert_eq!(got.report.per_example.len(), 2, "{}", got.report);
    }
}

/// One piece goes through the layer, the other past it.
#[test]
fn a_parameter_that_one_piece_uses_otherwise_is_taken_one_by_one() {
    let map = VarMap::new();
    let layer = nn::linear(4, 5, builder(&map, DType::F32).pp("layer")).unwrap();
    let output = nn::linear(5, 3, builder(&map, DType::F32).pp("output")).unwrap();
    randomize(&map, 6);
    let inputs = Random(7).tensor(&[11, 4], DType::F32);
    let labels = Random(8).indices(11, 3);
    // Eleven are taken as six and five; either goes past the layer.
    for past in [5, 6] {
        let forward = |x: &Tensor| {
            let hidden = if x.dim(0)? == past {
                x.matmul(&layer.weight().t()?)?.broadcast_add(layer.bias().unwrap())?
            } else {
                layer.forward(x)?
            };
            output.forward(&hidden.tanh()?)
        };
        let expected = per_example(&map, &inputs, |input, row| {
            cross_entropies(&forward(input)?, &labels[row..=row])
        });
        let mut norms = GradientNorms::new(&map).unwrap();
        let got = norms.cross_entropy(&inputs, &labels, forward).unwrap();
        assert!(relative_error(&got.values, &expected) < 1e-5, "{:?}", got.values);
        let per_example = got.report.per_example.iter();
        let named: Vec<&str> = per_example.map(|one| one.parameter.as_str()).collect();
        assert_eq!(named, ["layer.bias", "layer.weight"]);
    }
}
