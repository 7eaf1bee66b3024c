//! The paper's case: 100 examples of 10 classes. A residual network of 11 million parameters, of which
//! the whole Jacobian takes 44 GB, and the same network with few channels; how long both ways to a kernel
//! take.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarMap;
use data_diet_candle::nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder, batch_norm,
    conv2d_no_bias, linear,
};
use data_diet_candle::ntk::GramOptions;
use data_diet_candle::weights::Params;

use crate::models::{scatter, tensor};
use crate::ntk::{assert_close, brute_force};

struct Block {
    convs: [(Conv2d, BatchNorm); 2],
    shortcut: Option<(Conv2d, BatchNorm)>,
}

fn layer(
    [inputs, outputs, kernel, stride]: [usize; 4],
    builder: &VarBuilder<'_>,
) -> (Conv2d, BatchNorm) {
    let config = Conv2dConfig { stride, padding: kernel / 2, ..Conv2dConfig::default() };
    let conv = conv2d_no_bias(inputs, outputs, kernel, config, builder.pp("conv")).unwrap();
    (conv, batch_norm(outputs, 1e-5, builder.pp("norm")).unwrap())
}

fn run((conv, norm): &(Conv2d, BatchNorm), x: &Tensor) -> candle_core::Result<Tensor> {
    norm.forward_t(&conv.forward(x)?, false)
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: usize, builder: &VarBuilder<'_>) -> Self {
        let convs = [
            layer([inputs, outputs, 3, stride], &builder.pp("a")),
            layer([outputs, outputs, 3, 1], &builder.pp("b")),
        ];
        let shortcut =
            (stride > 1).then(|| layer([inputs, outputs, 1, stride], &builder.pp("shortcut")));
        Self { convs, shortcut }
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let straight = match &self.shortcut {
            Some(shortcut) => run(shortcut, x)?,
            None => x.clone(),
        };
        (straight + run(&self.convs[1], &run(&self.convs[0], x)?.relu()?)?)?.relu()
    }
}

struct ResNet18 {
    stem: (Conv2d, BatchNorm),
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNet18 {
    /// `channels` of the first stage, twice as many of each after it.
    fn new(channels: usize, classes: usize, builder: &VarBuilder<'_>) -> Self {
        let mut blocks = Vec::new();
        let mut inputs = channels;
        for stage in 0..4 {
            let outputs = channels << stage;
            for block in 0..2 {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let builder = builder.pp(format!("stage{stage}.block{block}"));
                blocks.push(Block::new(inputs, outputs, stride, &builder));
                inputs = outputs;
            }
        }
        let stem = layer([3, channels, 3, 1], &builder.pp("stem"));
        Self { stem, blocks, head: linear(inputs, classes, builder.pp("head")).unwrap() }
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = run(&self.stem, x)?.relu()?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x))?;
        self.head.forward(&x.mean((2, 3))?)
    }
}

#[test]
fn a_residual_network_of_few_channels() {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let model = ResNet18::new(4, 3, &builder);
    scatter(&variables, 1);
    let params = Params::from_varmap(&variables).unwrap();
    let images = tensor(2, &[4, 3, 16, 16], DType::F32);
    let expected = brute_force(&params, &images, |x| model.forward(x));
    let whole = GramOptions::default().gram(&params, &images, |x| model.forward(x)).unwrap();
    assert_close(&whole, &expected, 1e-5);
    assert_eq!(whole.backward_passes(), 3);
    // In memory for a part of the weights, and for a part of the examples at a time.
    let options = GramOptions::default().max_bytes(1 << 20);
    let pieces = options.gram(&params, &images, |x| model.forward(x)).unwrap();
    assert_close(&pieces, &expected, 1e-5);
    assert!(pieces.backward_passes() > 3);
}

#[test]
#[ignore = "takes gigabytes and minutes"]
#[allow(clippy::print_stderr, reason = "it is run to see how long it takes")]
fn a_residual_network_of_eleven_million_parameters() {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let model = ResNet18::new(64, 10, &builder);
    let params = Params::from_varmap(&variables).unwrap();
    let parameters: usize = params.variables().map(|variable| variable.elem_count()).sum();
    assert!((11_000_000..11_400_000).contains(&parameters), "{parameters}");
    let images = tensor(1, &[100, 3, 32, 32], DType::F32);
    let start = Instant::now();
    let whole = GramOptions::default().gram(&params, &images, |x| model.forward(x)).unwrap();
    let passes = whole.backward_passes();
    eprintln!("100 examples: {passes} backward passes, {:.1?}", start.elapsed());
    assert_eq!(whole.rows(), 1000);
    // A few of them one at a time; a kernel of some examples is a corner of the kernel of all.
    let few = images.narrow(0, 0, 2).unwrap();
    let start = Instant::now();
    let options = GramOptions::default().per_example();
    let single = options.gram(&params, &few, |x| model.forward(x)).unwrap();
    eprintln!("2 examples one by one: {:.1?}", start.elapsed());
    for row in 0..20 {
        for column in 0..20 {
            let (got, expected) =
                (whole.values()[row * 1000 + column], single.values()[row * 20 + column]);
            let most = (single.values()[row * 21] * single.values()[column * 21]).sqrt();
            assert!((got - expected).abs() <= 1e-5 * most, "{row}, {column}: {got}, {expected}");
        }
    }
}

#[test]
#[ignore = "is run to see how long it takes"]
#[allow(clippy::print_stderr, reason = "it is run to see how long it takes")]
fn a_perceptron_by_whole_batches_and_one_by_one() {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let widths = [(784, 300), (300, 100), (100, 10)];
    let layer = |(place, (inputs, outputs)): (usize, (usize, usize))| {
        linear(inputs, outputs, builder.pp(format!("layer{place}"))).unwrap()
    };
    let layers: Vec<Linear> = widths.into_iter().enumerate().map(layer).collect();
    let forward = |x: &Tensor| {
        let hidden = layers[0].forward(x)?.relu()?;
        layers[2].forward(&layers[1].forward(&hidden)?.relu()?)
    };
    let params = Params::from_varmap(&variables).unwrap();
    let images = tensor(1, &[100, 784], DType::F32);
    let mut kernels = Vec::new();
    for (name, options) in [
        ("by whole batches", GramOptions::default()),
        ("one by one", GramOptions::default().per_example()),
    ] {
        let start = Instant::now();
        kernels.push(options.gram(&params, &images, forward).unwrap());
        let passes = kernels[kernels.len() - 1].backward_passes();
        eprintln!("{name}: {passes} backward passes, {:.3?}", start.elapsed());
    }
    assert!(kernels[0].distance(&kernels[1]).unwrap() < 1e-10);
}
