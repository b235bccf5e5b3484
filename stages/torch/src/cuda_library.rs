//! Brings in the CUDA half of libtorch where it is installed and the machine has a GPU.
//!
//! The worker is linked against the CPU half only, so that one binary starts everywhere. libtorch looks for CUDA at
//! the first use of it; the library must be in the process by then, so `main` calls [`load`] before anything else.
//! Must not know tensors, devices of a stage, or requests: what follows from the answer is decided by whoever asks.

use std::ffi::{CStr, c_char, c_int};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW, Symbol};

const CUDA_LIBRARY: &str = "libtorch_cuda.so";
const DRIVER_LIBRARY: &str = "libcuda.so.1";
/// `CUDA_ERROR_NO_DEVICE`: the driver is there and offers this process no device.
const NO_DEVICE: c_int = 100;

/// What this process can do with a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CudaLibrary {
    /// libtorch's CUDA half is loaded and the driver answers.
    Loaded,
    /// No NVIDIA driver, or none of its devices is offered to this process.
    NoGpu,
    /// There is a GPU, but this libtorch was set up for the CPU only.
    NotInstalled,
    /// There is a GPU and a CUDA build, and they do not work together: a sentence that says why and what to do.
    Unusable(String),
}

/// Loads libtorch's CUDA half if it is installed and a driver is present. Without a GPU nothing is loaded, which
/// keeps the start of the worker short. To be called once, before the first use of libtorch.
pub fn load() -> CudaLibrary {
    let driver = match Driver::open() {
        Ok(Some(driver)) => driver,
        Ok(None) => return CudaLibrary::NoGpu,
        Err(reason) => return CudaLibrary::Unusable(reason),
    };
    if let Err(message) = load_for_good(CUDA_LIBRARY) {
        return if message.starts_with(&format!("{CUDA_LIBRARY}: cannot open")) {
            CudaLibrary::NotInstalled
        } else {
            CudaLibrary::Unusable(format!(
                "libtorch's CUDA library does not load: {message}. Run `cargo xtask setup --cuda` again, or install the library it names"
            ))
        };
    }
    match cuda_runtime_version() {
        Some(runtime) if driver.cuda.major < runtime.major => CudaLibrary::Unusable(driver.too_old_for(runtime)),
        _ => CudaLibrary::Loaded,
    }
}

/// A CUDA version as its libraries give it: 1000 · major + 10 · minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CudaVersion {
    major: c_int,
    minor: c_int,
}

impl CudaVersion {
    fn decode(packed: c_int) -> Self {
        Self { major: packed / 1000, minor: packed % 1000 / 10 }
    }
}

impl std::fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The installed NVIDIA driver, initialised.
struct Driver {
    /// As people know it ("535.104.05"), where the kernel tells.
    release: Option<String>,
    /// The newest CUDA that it serves.
    cuda: CudaVersion,
}

impl Driver {
    /// `None` where there is no driver or no device; an error where there is one that does not answer.
    fn open() -> Result<Option<Self>, String> {
        let Ok(library) = load_for_good(DRIVER_LIBRARY) else { return Ok(None) };
        let release = kernel_driver_release();
        let unusable = |what: &str| {
            let release = release.as_deref().unwrap_or("of unknown version");
            format!(
                "the NVIDIA driver ({release}) {what}. Check it with `nvidia-smi`, restart after a driver update, or set `device: cpu`"
            )
        };
        let init: Symbol<unsafe extern "C" fn(u32) -> c_int> =
            function(library, c"cuInit").ok_or_else(|| unusable("has no cuInit"))?;
        let version: Symbol<unsafe extern "C" fn(*mut c_int) -> c_int> =
            function(library, c"cuDriverGetVersion").ok_or_else(|| unusable("has no cuDriverGetVersion"))?;
        // SAFETY: the signature is that of the CUDA driver API; 0 is the only flag it knows.
        match unsafe { init(0) } {
            0 => {}
            NO_DEVICE => return Ok(None),
            code => return Err(unusable(&format!("does not start: {}", error_text(library, code)))),
        }
        let mut packed = 0;
        // SAFETY: as above; the pointer is to a live integer.
        match unsafe { version(&raw mut packed) } {
            0 => Ok(Some(Self { release, cuda: CudaVersion::decode(packed) })),
            code => Err(unusable(&format!("does not tell its version: {}", error_text(library, code)))),
        }
    }

    fn too_old_for(&self, runtime: CudaVersion) -> String {
        let release = self.release.as_deref().map(|release| format!(" {release}")).unwrap_or_default();
        let wanted = match runtime.major {
            13 => " (580 or newer)",
            12 => " (525 or newer)",
            _ => "",
        };
        format!(
            "the NVIDIA driver{release} serves CUDA {} at most, and this libtorch is built for CUDA {runtime}. Update the driver{wanted}, \
             set LIBTORCH to a libtorch of the same version built for CUDA {}, or set `device: cpu`",
            self.cuda, self.cuda.major
        )
    }
}

/// Loads a library for the rest of the process: what it registered elsewhere must stay valid.
fn load_for_good(name: &str) -> Result<&'static Library, String> {
    // SAFETY: loading runs the library's initialisers; these are the vendor's own and expect to be loaded so.
    match unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => Ok(Box::leak(Box::new(library))),
        Err(libloading::Error::DlOpen { source }) => Err(source.to_string()),
        Err(other) => Err(other.to_string()),
    }
}

fn function<T>(library: &Library, name: &CStr) -> Option<Symbol<T>> {
    // SAFETY: each caller names the signature that the CUDA API documents for this symbol.
    unsafe { library.get(name.to_bytes_with_nul()) }.ok()
}

/// The CUDA that libtorch was built for; `None` for a libtorch without CUDA.
fn cuda_runtime_version() -> Option<CudaVersion> {
    let process = Library::this();
    let version: Symbol<unsafe extern "C" fn(*mut c_int) -> c_int> = function(&process, c"cudaRuntimeGetVersion")?;
    let mut packed = 0;
    // SAFETY: the signature is that of the CUDA runtime API; the pointer is to a live integer.
    (unsafe { version(&raw mut packed) } == 0).then(|| CudaVersion::decode(packed))
}

fn error_text(library: &Library, code: c_int) -> String {
    let describe: Option<Symbol<unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int>> =
        function(library, c"cuGetErrorString");
    let mut text: *const c_char = std::ptr::null();
    // SAFETY: the signature is that of the CUDA driver API, which leaves a static string or null.
    let known = describe.is_some_and(|describe| unsafe { describe(code, &raw mut text) } == 0);
    if !known || text.is_null() {
        return format!("CUDA error {code}");
    }
    // SAFETY: not null, and static text of the driver.
    let text = unsafe { CStr::from_ptr(text) };
    format!("{} (CUDA error {code})", text.to_string_lossy())
}

/// The driver's release as the kernel module states it.
fn kernel_driver_release() -> Option<String> {
    let release = std::fs::read_to_string("/sys/module/nvidia/version").ok()?;
    Some(release.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_driver_is_named_with_both_versions_and_the_ways_out() {
        let driver = Driver { release: Some("535.104.05".into()), cuda: CudaVersion::decode(12020) };
        let text = driver.too_old_for(CudaVersion::decode(13000));
        for part in ["535.104.05", "CUDA 12.2", "CUDA 13.0", "580", "LIBTORCH", "device: cpu"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
}
