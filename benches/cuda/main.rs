//! Measures what recording costs a training loop on a CUDA device, and how fast gradient norms are
//! there.
//!
//! ```text
//! cargo bench --features cli,cuda --bench cuda
//! ```
//!
//! Where there is no device, or with `DATA_DIET_DEVICE=cpu`, everything runs on the CPU with tiny
//! networks, which shows that it runs and nothing else. `benches/engines/grand_torch.py` measures
//! `PyTorch`'s gradient norms on the same networks. Prints Markdown tables and, last, a line of JSON.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and fails by panicking"
)]

use candle_core::Device;
use serde::Serialize;

use crate::network::{Network, Sizes};

mod grand;
#[path = "../measure/mod.rs"]
#[allow(dead_code, reason = "the other benchmarks start a process for each case")]
mod measure;
mod network;
mod training;

#[derive(Serialize)]
struct Report {
    device: String,
    is_stand_in: bool,
    training: Vec<training::Measured>,
    grand: Vec<grand::Measured>,
}

fn main() {
    let (device, name) = device();
    let is_stand_in = device.is_cpu();
    let sizes = if is_stand_in { Sizes::TINY } else { Sizes::FULL };
    println!("Device: {name}\n");
    if is_stand_in {
        println!("The networks are tiny and nothing here is a result.\n");
    }
    let networks: [fn(Sizes, &Device) -> candle_core::Result<Network>; 2] =
        [Network::resnet_18, Network::mlp];
    let networks = networks.map(|network| network(sizes, &device).unwrap());
    training::heading();
    let training = networks.iter().flat_map(|network| training::measure(network, sizes)).collect();
    println!();
    grand::heading();
    let grand = networks.iter().map(|network| grand::measure(network, sizes)).collect();
    let report = Report { device: name, is_stand_in, training, grand };
    println!("\n{}", serde_json::to_string(&report).unwrap());
}

/// A device and its name.
fn device() -> (Device, String) {
    if std::env::var("DATA_DIET_DEVICE").is_ok_and(|device| device == "cpu") {
        return (Device::Cpu, "the CPU, as asked for".to_owned());
    }
    match Device::new_cuda(0) {
        Ok(device) => {
            let name = name_of(&device);
            (device, name)
        }
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default();
            (Device::Cpu, format!("the CPU, since there is no CUDA device ({reason})"))
        }
    }
}

#[cfg(feature = "cuda")]
fn name_of(device: &Device) -> String {
    let stream = device.as_cuda_device().unwrap().cuda_stream();
    stream.context().name().unwrap()
}

#[cfg(not(feature = "cuda"))]
fn name_of(device: &Device) -> String {
    format!("{:?}", device.location())
}
