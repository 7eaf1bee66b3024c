//! The networks: ResNet-18 for images of 32 by 32 pixels, and fully connected layers.

use candle_core::{DType, Device, Result, Tensor};
use data_diet_candle::nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder, VarMap, batch_norm,
    conv2d_no_bias, linear,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(crate) const CLASSES: usize = 10;
const MLP_INPUTS: usize = 784;

/// How large everything is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The channels of `ResNet`'s first stage, and the images of a batch.
    pub(crate) channels: usize,
    pub(crate) images: usize,
    /// The width of the hidden layers, and the rows of a batch.
    pub(crate) hidden: usize,
    pub(crate) rows: usize,
    /// The most steps between two looks at the clock.
    pub(crate) steps: usize,
    /// Seconds that the training of each network may take, about; gradient norms take a third.
    pub(crate) seconds: f64,
}

impl Sizes {
    pub(crate) const FULL: Self =
        Self { channels: 64, images: 128, hidden: 1024, rows: 512, steps: 100, seconds: 50.0 };

    pub(crate) const TINY: Self =
        Self { channels: 2, images: 4, hidden: 32, rows: 16, steps: 20, seconds: 2.0 };
}

/// A network, its weights, and a batch that it is trained with over and over.
pub(crate) struct Network {
    pub(crate) name: &'static str,
    pub(crate) weights: VarMap,
    layers: Layers,
    pub(crate) inputs: Tensor,
    pub(crate) labels: Tensor,
}

enum Layers {
    Mlp([Linear; 3]),
    ResNet(Box<ResNet>),
}

struct ResNet {
    stem: (Conv2d, BatchNorm),
    blocks: Vec<Block>,
    head: Linear,
}

/// Two convolutions, and a way around them.
struct Block {
    first: (Conv2d, BatchNorm),
    second: (Conv2d, BatchNorm),
    around: Option<(Conv2d, BatchNorm)>,
}

impl Network {
    /// ResNet-18 as it is used for images of this size: a stem of 3x3 without pooling (He et al. 2016,
    /// with the stem of their networks for CIFAR-10).
    pub(crate) fn resnet_18(sizes: Sizes, device: &Device) -> Result<Self> {
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, device);
        let mut blocks = Vec::new();
        let mut channels = sizes.channels;
        for stage in 0..4 {
            for place in 0..2 {
                let stride = if stage > 0 && place == 0 { 2 } else { 1 };
                let path = builder.pp(format!("stage{stage}.block{place}"));
                blocks.push(Block::new(channels, channels * stride, stride, &path)?);
                channels *= stride;
            }
        }
        let network = ResNet {
            stem: convolution(3, sizes.channels, 3, 1, &builder.pp("stem"))?,
            blocks,
            head: linear(channels, CLASSES, builder.pp("head"))?,
        };
        let shape = [sizes.images, 3, 32, 32];
        Self::new("ResNet-18", weights, Layers::ResNet(Box::new(network)), &shape, device)
    }

    pub(crate) fn mlp(sizes: Sizes, device: &Device) -> Result<Self> {
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, device);
        let layers = [
            linear(MLP_INPUTS, sizes.hidden, builder.pp("first"))?,
            linear(sizes.hidden, sizes.hidden, builder.pp("second"))?,
            linear(sizes.hidden, CLASSES, builder.pp("third"))?,
        ];
        Self::new("MLP", weights, Layers::Mlp(layers), &[sizes.rows, MLP_INPUTS], device)
    }

    fn new(
        name: &'static str,
        weights: VarMap,
        layers: Layers,
        shape: &[usize],
        device: &Device,
    ) -> Result<Self> {
        let mut random = StdRng::seed_from_u64(1);
        let values = (0..shape.iter().product()).map(|_| random.random_range(-1.0_f32..1.0));
        let inputs = Tensor::from_vec(values.collect(), shape, device)?;
        let labels: Vec<u32> = (0..shape[0] as u32).map(|row| row % CLASSES as u32).collect();
        Ok(Self { name, weights, layers, inputs, labels: Tensor::new(labels, device)? })
    }

    pub(crate) fn batch(&self) -> usize {
        self.inputs.dims()[0]
    }

    pub(crate) fn weight_bytes(&self) -> usize {
        let data = self.weights.data().lock().unwrap();
        data.values().map(|variable| variable.elem_count() * 4).sum()
    }

    /// Logits `[batch, CLASSES]`.
    pub(crate) fn forward(&self, inputs: &Tensor, train: bool) -> Result<Tensor> {
        match &self.layers {
            Layers::Mlp([first, second, third]) => {
                let hidden = first.forward(inputs)?.relu()?;
                third.forward(&second.forward(&hidden)?.relu()?)
            }
            Layers::ResNet(network) => {
                let mut images = normalized(&network.stem, inputs, train)?.relu()?;
                for block in &network.blocks {
                    images = block.forward(&images, train)?;
                }
                network.head.forward(&images.flatten_from(2)?.mean(2)?)
            }
        }
    }
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: usize, builder: &VarBuilder) -> Result<Self> {
        let around = (stride > 1)
            .then(|| convolution(inputs, outputs, 1, stride, &builder.pp("around")))
            .transpose()?;
        Ok(Self {
            first: convolution(inputs, outputs, 3, stride, &builder.pp("first"))?,
            second: convolution(outputs, outputs, 3, 1, &builder.pp("second"))?,
            around,
        })
    }

    fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let hidden = normalized(&self.first, images, train)?.relu()?;
        let through = normalized(&self.second, &hidden, train)?;
        let around = match &self.around {
            Some(around) => normalized(around, images, train)?,
            None => images.clone(),
        };
        (through + around)?.relu()
    }
}

/// A convolution that keeps the size but for its stride, and its normalization.
fn convolution(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    builder: &VarBuilder,
) -> Result<(Conv2d, BatchNorm)> {
    let config = Conv2dConfig { padding: kernel / 2, stride, ..Conv2dConfig::default() };
    let conv = conv2d_no_bias(inputs, outputs, kernel, config, builder.pp("conv"))?;
    Ok((conv, batch_norm(outputs, 1e-5, builder.pp("norm"))?))
}

fn normalized(layers: &(Conv2d, BatchNorm), images: &Tensor, train: bool) -> Result<Tensor> {
    layers.1.forward_t(&layers.0.forward(images)?, train)
}
