//! Where tensors live: the CPU or a GPU, as the parameters ask and the machine allows.

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::params::{Device as Asked, Precision};
use serde_json::Value;
use tch::kind::Element;
use tch::{Cuda, Device, Kind, Tensor};

use crate::cuda_library::{self, CudaLibrary};
use crate::native;

/// The libtorch that this build is linked against; tch accepts no other version.
pub const TORCH_VERSION: &str = "2.13.0";

/// What this process can compute on.
pub struct Devices {
    cuda: CudaLibrary,
}

impl Devices {
    /// Looks for GPUs. To be called once, before anything else of libtorch.
    pub fn find() -> Self {
        Self { cuda: cuda_library::load() }
    }

    /// The device that was asked for.
    ///
    /// # Errors
    /// Where a GPU is asked for and there is none, or where there is one that cannot be used: nobody wants to learn in
    /// the morning that the night went by on the CPU.
    pub fn choose(&self, asked: Asked) -> Result<Device, Failure> {
        let count = self.count();
        match (asked, &self.cuda) {
            (Asked::Cpu, _) | (Asked::Auto, CudaLibrary::NoGpu) => Ok(Device::Cpu),
            (_, CudaLibrary::Unusable(reason)) => Err(Failure::environment(reason.clone())),
            (_, CudaLibrary::NotInstalled) => {
                Err(Failure::environment("there is a GPU here, but this libtorch is set up for the CPU only")
                    .with_hint("run `cargo xtask setup --cuda`, or set `device: cpu`"))
            }
            (Asked::Auto, CudaLibrary::Loaded) if count == 0 => {
                Err(Failure::environment("there is a GPU here, and libtorch finds no device it can use")
                    .with_hint("`neftpipe doctor` says what is here; `device: cpu` does without"))
            }
            (Asked::Auto, CudaLibrary::Loaded) => Ok(Device::Cuda(0)),
            (Asked::Cuda(index), _) => {
                let index = i64::from(index.unwrap_or(0));
                if index < count { Ok(Device::Cuda(index as usize)) } else { Err(no_such_gpu(asked, count)) }
            }
        }
    }

    /// Facts of libtorch and of the devices.
    pub fn facts(&self) -> Metrics {
        let cuda = match &self.cuda {
            CudaLibrary::Loaded => "loaded",
            CudaLibrary::NoGpu => "no GPU",
            CudaLibrary::NotInstalled => "libtorch is set up for the CPU only",
            CudaLibrary::Unusable(reason) => reason,
        };
        [
            ("torch_version".to_owned(), Value::from(TORCH_VERSION)),
            ("cuda".to_owned(), Value::from(cuda)),
            ("cuda_devices".to_owned(), Value::from(self.count())),
            ("mkl".to_owned(), Value::from(tch::utils::has_mkl())),
            ("onednn".to_owned(), Value::from(tch::utils::has_mkldnn())),
        ]
        .into_iter()
        .collect()
    }

    fn count(&self) -> i64 {
        if self.cuda == CudaLibrary::Loaded && Cuda::is_available() { Cuda::device_count() } else { 0 }
    }
}

/// Prepares libtorch to compute on a device, before anything is. The CPU gives equal bytes from run to run anyway.
pub fn settle(device: Device, deterministic: bool) {
    if deterministic && device.is_cuda() {
        native::be_deterministic();
    }
}

/// Values [n] on a device. To a GPU they go without the host waiting, as a step has many such and none of them is looked at.
pub fn upload<T: Element>(values: &[T], device: Device) -> Tensor {
    let values = Tensor::from_slice(values);
    match device {
        Device::Cuda(index) => native::to_gpu(&values, index),
        _ => values,
    }
}

/// The tensors' number format for a precision.
pub fn kind(precision: Precision) -> Kind {
    match precision {
        Precision::F32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    }
}

/// `cpu` or `cuda:0`.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

fn no_such_gpu(asked: Asked, count: i64) -> Failure {
    let found = match count {
        0 => "there is no GPU".to_owned(),
        1 => "there is one GPU (`cuda:0`)".to_owned(),
        _ => format!("there are {count} GPUs"),
    };
    Failure::environment(format!("`device: {asked}` was asked for, and {found} here"))
        .with_hint("`device: auto` takes the CPU where there is no GPU")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_cannot_be_used_is_no_reason_to_use_the_cpu() {
        let choose = |cuda, asked| Devices { cuda }.choose(asked).map_err(|failure| failure.message);
        assert_eq!(choose(CudaLibrary::NoGpu, Asked::Auto), Ok(Device::Cpu));
        assert_eq!(choose(CudaLibrary::NotInstalled, Asked::Cpu), Ok(Device::Cpu));
        assert!(choose(CudaLibrary::NotInstalled, Asked::Auto).unwrap_err().contains("CPU only"));
        assert_eq!(choose(CudaLibrary::Unusable("old driver".into()), Asked::Auto), Err("old driver".into()));
        assert!(choose(CudaLibrary::NoGpu, Asked::Cuda(Some(1))).unwrap_err().contains("cuda:1"));
    }
}
