//! Where a test runs, and at what length: on a CUDA device, or on the CPU in its stead.
//!
//! The environment variable `DATA_DIET_DEVICE` decides what the tests under `on_cuda` do:
//!
//! | value | |
//! |---|---|
//! | not set | they run on CUDA device 0, and are skipped where there is none |
//! | `cuda` | the same, but a missing device is a failure |
//! | `cpu` | they run on the CPU, at full length |
//!
//! With `DATA_DIET_LENGTH=few` they do what those under `on_cpu` do and no more, for tools under which
//! everything takes long.

use std::env;
use std::io::{Write, stderr};
use std::sync::{PoisonError, RwLock};

use candle_core::Device;

/// Makes of each test body a test on CUDA and one on the CPU.
macro_rules! everywhere {
    ($($body:ident),+ $(,)?) => {
        on_cuda!($($body),+);
        mod on_cpu {
            $(#[test]
            fn $body() {
                super::$body(&$crate::place::Place::on_cpu());
            })+
        }
    };
}

/// Makes of each test body a test on CUDA; after `alone:`, while no other test uses a device.
macro_rules! on_cuda {
    (alone: $($body:ident),+ $(,)?) => {
        on_cuda!(@on_cuda_alone $($body),+);
    };
    (@$how:ident $($body:ident),+) => {
        mod on_cuda {
            $(#[test]
            fn $body() {
                let name = concat!(module_path!(), "::", stringify!($body));
                $crate::place::Place::$how(name, super::$body);
            })+
        }
    };
    ($($body:ident),+ $(,)?) => {
        on_cuda!(@on_cuda $($body),+);
    };
}

/// Held by every test on a device; exclusively by one that wants it alone. The driver may stop every
/// thread of a process that calls it while it waits for the device in one of them.
static TURNS: RwLock<()> = RwLock::new(());

/// A device, and how much is to be done there.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) device: Device,
    is_full: bool,
    test: String,
}

impl Place {
    /// The CPU, with few steps.
    pub(crate) fn on_cpu() -> Self {
        Self { device: Device::Cpu, is_full: false, test: String::new() }
    }

    /// Calls `body` with a CUDA device, or says that it is skipped, and why.
    pub(crate) fn on_cuda(test: &str, body: impl FnOnce(&Self)) {
        let _turn = TURNS.read().unwrap_or_else(PoisonError::into_inner);
        Self::run_on_cuda(test, body);
    }

    /// The same while no other test uses a device.
    pub(crate) fn on_cuda_alone(test: &str, body: impl FnOnce(&Self)) {
        let _turn = TURNS.write().unwrap_or_else(PoisonError::into_inner);
        Self::run_on_cuda(test, body);
    }

    fn run_on_cuda(test: &str, body: impl FnOnce(&Self)) {
        let wanted = env::var("DATA_DIET_DEVICE").unwrap_or_default();
        let device = match wanted.as_str() {
            "cpu" => Ok(Device::Cpu),
            "" | "cuda" => cuda(0),
            other => panic!("DATA_DIET_DEVICE: expected `cpu` or `cuda`, got `{other}`"),
        };
        let test = test.split_once("::").map_or(test, |(_binary, path)| path).to_owned();
        match device {
            Ok(device) => {
                let is_short = env::var("DATA_DIET_LENGTH").is_ok_and(|length| length == "few");
                body(&Self { device, is_full: !is_short, test });
            }
            Err(reason) if wanted == "cuda" => panic!("{test}: no CUDA device ({reason})"),
            Err(reason) => say(&format!("skipped {test}: no CUDA device ({reason})")),
        }
    }

    /// How often something is done: `full` times, or `few` where only the logic is tried.
    pub(crate) fn times(&self, full: usize, few: usize) -> usize {
        if self.is_full { full } else { few }
    }

    /// Whether this is a CUDA device; where it is not, says what is left out.
    pub(crate) fn is_cuda_for(&self, what: &str) -> bool {
        if !self.device.is_cuda() {
            self.skip(what, "not on a CUDA device");
        }
        self.device.is_cuda()
    }

    /// The same device with every kind of stream that candle offers, each with its name.
    pub(crate) fn streams(&self) -> Vec<(&'static str, Self)> {
        let again = |device| Self { device, is_full: self.is_full, test: self.test.clone() };
        if !self.device.is_cuda() {
            return vec![("no stream", again(self.device.clone()))];
        }
        let own = Device::new_cuda_with_stream(0).unwrap();
        vec![("the thread's stream", again(self.device.clone())), ("a stream", again(own))]
    }

    /// All devices of this kind. The CPU counts as two.
    pub(crate) fn devices(&self) -> Vec<Device> {
        if self.device.is_cuda() {
            return (0..).map_while(|ordinal| cuda(ordinal).ok()).collect();
        }
        vec![Device::Cpu, Device::Cpu]
    }

    /// Says that a part of this test is left out.
    pub(crate) fn skip(&self, what: &str, reason: &str) {
        say(&format!("skipped {} ({what}): {reason}", self.test));
    }
}

fn cuda(ordinal: usize) -> Result<Device, String> {
    if !cfg!(feature = "cuda") {
        return Err("built without the feature `cuda`".to_owned());
    }
    let message = |error: candle_core::Error| {
        error.to_string().lines().next().unwrap_or("unknown error").to_owned()
    };
    Device::new_cuda(ordinal).map_err(message)
}

/// Says something that the test runner does not keep to itself when the test passes.
fn say(line: &str) {
    writeln!(stderr().lock(), "{line}").unwrap();
}
