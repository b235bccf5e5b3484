//! Where tensors live: the CPU or a GPU, as the parameters ask and the machine allows.

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::params::Device as Asked;
use serde_json::Value;
use tch::{Cuda, Device};

/// The device that was asked for.
///
/// # Errors
/// Where a GPU is asked for and there is none that libtorch can use.
pub fn choose(asked: Asked) -> Result<Device, Failure> {
    let count = if Cuda::is_available() { Cuda::device_count() } else { 0 };
    match asked {
        Asked::Cpu => Ok(Device::Cpu),
        Asked::Auto if count == 0 => Ok(Device::Cpu),
        Asked::Auto => Ok(Device::Cuda(0)),
        Asked::Cuda(index) => {
            let index = i64::from(index.unwrap_or(0));
            if index < count {
                Ok(Device::Cuda(index as usize))
            } else {
                Err(Failure::environment(format!(
                    "device `{asked}` was asked for, and libtorch can use {count} GPUs here"
                ))
                .with_hint("`device: auto` takes the CPU where there is no GPU; `neftpipe doctor` says what is here"))
            }
        }
    }
}

/// `cpu` or `cuda:0`.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// Facts of libtorch and of its devices.
pub fn facts() -> Metrics {
    [
        ("torch_version".to_owned(), Value::from(TORCH_VERSION)),
        ("cuda_devices".to_owned(), Value::from(if Cuda::is_available() { Cuda::device_count() } else { 0 })),
        ("mkl".to_owned(), Value::from(tch::utils::has_mkl())),
        ("onednn".to_owned(), Value::from(tch::utils::has_mkldnn())),
    ]
    .into_iter()
    .collect()
}

/// The libtorch that this build is linked against; tch 0.26 accepts no other.
pub const TORCH_VERSION: &str = "2.13.0";
