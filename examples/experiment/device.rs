//! The device that an example runs on.

use std::str::FromStr;

use candle_core::Device;

use super::Result;

/// Where the network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Cpu,
    Cuda,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            other => Err(format!("expected cpu or cuda, got {other}")),
        }
    }
}

impl Place {
    pub(crate) fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if !candle_core::utils::cuda_is_available() => {
                Err("--device cuda: built without it; add `--features cuda`".into())
            }
            Self::Cuda => Ok(Device::new_cuda(0)?),
        }
    }
}
