//! The libtorch that the worker is built against: found without any variable set, mapped once, and it computes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use neftpipe_stage_torch::cuda_library::{self, CudaLibrary};
use tch::{Device, Kind, Tensor};

#[test]
fn multiplies() {
    let state = cuda_library::load();
    let device = if state == CudaLibrary::Loaded && tch::Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu };
    let a = Tensor::arange(6, (Kind::Float, device)).reshape([2, 3]);
    let product = a.f_matmul(&a.tr()).unwrap().to_device(Device::Cpu);
    assert_eq!(Vec::<f32>::try_from(product.flatten(0, 1)).unwrap(), [5.0, 14.0, 14.0, 50.0]);
}

/// A second copy of a library would have a second set of operators and of global state.
#[cfg(target_os = "linux")]
#[test]
fn every_library_of_libtorch_is_mapped_once() {
    cuda_library::load();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped: BTreeSet<&str> = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
    for library in ["libtorch_cpu.so", "libc10.so", "libtorch_cuda.so", "libcudart.so.13"] {
        let copies = mapped.iter().filter(|path| path.ends_with(&format!("/{library}"))).count();
        assert!(copies <= 1, "{library} is mapped {copies} times");
    }
    assert!(mapped.iter().any(|path| path.ends_with("/libtorch_cpu.so")));
}
