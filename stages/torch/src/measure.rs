//! What a stage measures of itself and says of its machine: memory, device, libraries.

use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::worker;
use serde_json::Value;
use tch::Device;

use crate::device::{self, TORCH_VERSION};
use crate::native;

/// Most memory that was held at a time: on a GPU by libtorch's allocator there; else by this process, where the system says
/// so (Linux: `VmHWM`).
pub fn peak_memory_bytes(device: Device) -> Option<u64> {
    if let Device::Cuda(index) = device {
        return native::gpu_peak_bytes(index);
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The facts for the provenance of a result.
pub fn provenance(threads: usize, device: Device) -> Metrics {
    let mut facts = worker::provenance("neftpipe-stage-torch", env!("CARGO_PKG_VERSION"), threads);
    facts.insert("device".to_owned(), Value::from(device::name(device)));
    facts.insert("torch_version".to_owned(), Value::from(TORCH_VERSION));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_at_least_what_was_held() {
        let held = vec![1u8; 1 << 20];
        assert!(peak_memory_bytes(Device::Cpu).is_none_or(|bytes| bytes > held.len() as u64));
    }
}
