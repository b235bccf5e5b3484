//! Which wheels hold libtorch on which platform, pinned by hash, and which of their files are needed.
//! A table: it downloads nothing and knows no folder of this machine.

use sha2::{Digest, Sha256};

/// The libtorch that tch 0.26 is written for.
pub const VERSION: &str = "2.13.0";

/// The Python that the pinned wheels are for; the machine's own Python may be any other.
pub const PYTHON_VERSION: &str = "3.11";

/// The oldest major release of the NVIDIA driver that serves the CUDA of the pinned wheels.
pub const OLDEST_DRIVER: u32 = 580;

/// One wheel: its file name, which says project, version and platforms, and what is taken from it.
#[derive(Debug)]
pub struct Wheel {
    pub file: &'static str,
    pub sha256: &'static str,
    /// Prefixes of the paths that are unpacked. Licences are unpacked besides.
    pub keep: &'static [&'static str],
}

impl Wheel {
    /// The line of a pip requirements file that pins this wheel.
    pub fn requirement(&self) -> String {
        let mut parts = self.file.split('-');
        let (project, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        format!("{project}=={version} --hash=sha256:{}", self.sha256)
    }

    /// The platform tags at the end of the file name.
    pub fn platforms(&self) -> impl Iterator<Item = &'static str> {
        let name = self.file.trim_end_matches(".whl");
        name.rsplit('-').next().unwrap_or_default().split('.')
    }

    pub fn keeps(&self, path: &str) -> bool {
        self.keep.iter().any(|prefix| path.starts_with(prefix)) || path.contains(".dist-info/licenses/")
    }
}

/// Everything that makes up one libtorch.
#[derive(Debug)]
pub struct Bundle {
    pub platform: &'static str,
    pub flavour: Flavour,
    /// Set up and tested by us; the others are put together from what their wheels hold.
    pub tested: bool,
    pub wheels: &'static [&'static [Wheel]],
    pub download_mb: u32,
    pub unpacked_mb: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    Cpu,
    Cuda,
}

impl Flavour {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

impl Bundle {
    /// The bundle for the machine this runs on.
    pub fn for_this_machine(flavour: Flavour) -> Option<&'static Self> {
        let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        BUNDLES.iter().find(|bundle| bundle.platform == platform && bundle.flavour == flavour)
    }

    pub fn wheels(&self) -> impl Iterator<Item = &'static Wheel> {
        self.wheels.iter().copied().flatten()
    }

    /// The text of a pip requirements file that pins every wheel.
    pub fn requirements(&self) -> String {
        self.wheels().map(|wheel| wheel.requirement() + "\n").collect()
    }

    /// A name of its own for each set of files, so that checkouts with other pins do not meet in one folder.
    pub fn folder_name(&self) -> String {
        let mut pins = self.requirements();
        for wheel in self.wheels() {
            pins.push_str(&wheel.keep.join("\n"));
        }
        let digest = Sha256::digest(pins.as_bytes());
        let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("libtorch-{VERSION}-{}-{}-{short}", self.platform, self.flavour.name())
    }
}

pub const BUNDLES: &[Bundle] = &[
    Bundle {
        platform: "linux-x86_64",
        flavour: Flavour::Cpu,
        tested: true,
        wheels: &[LINUX_X86_64_CPU],
        download_mb: 540,
        unpacked_mb: 484,
    },
    Bundle {
        platform: "linux-x86_64",
        flavour: Flavour::Cuda,
        tested: false,
        wheels: &[LINUX_X86_64_CUDA, LINUX_X86_64_NVIDIA],
        download_mb: 2531,
        unpacked_mb: 3844,
    },
    Bundle {
        platform: "linux-aarch64",
        flavour: Flavour::Cpu,
        tested: false,
        wheels: &[LINUX_AARCH64_CPU],
        download_mb: 440,
        unpacked_mb: 346,
    },
    Bundle {
        platform: "macos-aarch64",
        flavour: Flavour::Cpu,
        tested: false,
        wheels: &[MACOS_AARCH64],
        download_mb: 112,
        unpacked_mb: 379,
    },
];

/// libtorch_cpu names the CUDA runtime and profiler among its libraries, whether or not they are used.
const LINUX_X86_64_CPU: &[Wheel] = &[
    Wheel {
        file: "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        sha256: "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
        keep: &["torch/include/", "torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1"],
    },
    Wheel {
        file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        keep: &["nvidia/cu13/lib/libcudart.so.13"],
    },
    Wheel {
        file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        keep: &["nvidia/cu13/lib/libcupti.so.13"],
    },
];

const LINUX_X86_64_CUDA: &[Wheel] = &[Wheel {
    file: "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    sha256: "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
    keep: &[
        "torch/include/",
        "torch/lib/libtorch_cpu.so",
        "torch/lib/libtorch_cuda.so",
        "torch/lib/libtorch_cuda_linalg.so",
        "torch/lib/libtorch_nvshmem.so",
        "torch/lib/libcaffe2_nvrtc.so",
        "torch/lib/libc10.so",
        "torch/lib/libc10_cuda.so",
        "torch/lib/libgomp.so.1",
    ],
}];

/// The versions that the metadata of the torch wheel asks for, through `cuda-toolkit` 13.0.3.
const LINUX_X86_64_NVIDIA: &[Wheel] = &[
    Wheel {
        file: "nvidia_cublas-13.1.1.3-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "37936a16db8fe4ac1f065c2139360608a543a09275cb1a1af612e08cfa065436",
        keep: &["nvidia/cu13/lib/"],
    },
    Wheel {
        file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        keep: &["nvidia/cu13/lib/"],
    },
    Wheel {
        file: "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        keep: &["nvidia/cu13/lib/"],
    },
    Wheel {
        file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        keep: &["nvidia/cu13/lib/"],
    },
    Wheel {
        file: "nvidia_cudnn_cu13-9.20.0.48-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "0c45dd8eeb50b603f07995b1b300c62ffe6a1980482b82b3bcf94a4ca9d49304",
        keep: &["nvidia/cudnn/lib/"],
    },
    Wheel {
        file: "nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
        keep: &["nvidia/cu13/lib/"],
    },
    Wheel {
        file: "nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
        keep: &["nvidia/cu13/lib/"],
    },
    Wheel {
        file: "nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        keep: &["nvidia/cu13/lib/"],
    },
    Wheel {
        file: "nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
        keep: &["nvidia/cu13/lib/"],
    },
    Wheel {
        file: "nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
        keep: &["nvidia/cu13/lib/"],
    },
    Wheel {
        file: "nvidia_cusparselt_cu13-0.8.1-py3-none-manylinux2014_x86_64.whl",
        sha256: "786ce87568c303fadb5afcc7102d454cd3040d75f6f8626f5db460d1871f4dd0",
        keep: &["nvidia/cusparselt/lib/"],
    },
    Wheel {
        file: "nvidia_nccl_cu13-2.29.7-py3-none-manylinux_2_18_x86_64.whl",
        sha256: "edd81538446786ec3b73972543e53bb43bcaf0bfc8ef76cb679fcc390ffe136d",
        keep: &["nvidia/nccl/lib/"],
    },
    Wheel {
        file: "nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        sha256: "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
        keep: &["nvidia/cu13/lib/"],
    },
    Wheel {
        file: "nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
        keep: &["nvidia/nvshmem/lib/"],
    },
    Wheel {
        file: "nvidia_nvtx-13.0.85-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl",
        sha256: "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
        keep: &["nvidia/cu13/lib/"],
    },
];

/// A CUDA build too; its libtorch_cpu needs the Arm and NVIDIA linear algebra beside it.
const LINUX_AARCH64_CPU: &[Wheel] = &[
    Wheel {
        file: "torch-2.13.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        sha256: "092790c696a760c729fd5722835f50b9d81fd7c8f141571f3f3cf4081a8f664c",
        keep: &[
            "torch/include/",
            "torch/lib/libtorch_cpu.so",
            "torch/lib/libc10.so",
            "torch/lib/libgomp.so.1",
            "torch/lib/libgfortran.so.5",
            "torch/lib/libarm_compute",
            "torch/lib/libnvpl_",
        ],
    },
    Wheel {
        file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        sha256: "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
        keep: &["nvidia/cu13/lib/libcudart.so.13"],
    },
    Wheel {
        file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl",
        sha256: "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
        keep: &["nvidia/cu13/lib/libcupti.so.13"],
    },
];

const MACOS_AARCH64: &[Wheel] = &[Wheel {
    file: "torch-2.13.0-cp311-cp311-macosx_14_0_arm64.whl",
    sha256: "e76f9bcecc52b8ff711239a2f7547d5353df95878ab232f0773c1d95928b92f8",
    keep: &[
        "torch/include/",
        "torch/lib/libtorch.dylib",
        "torch/lib/libtorch_cpu.dylib",
        "torch/lib/libc10.dylib",
        "torch/lib/libomp.dylib",
    ],
}];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_a_whole_requirement() {
        for bundle in BUNDLES {
            for wheel in bundle.wheels() {
                assert_eq!(wheel.file.split('-').count(), 5, "{}", wheel.file);
                assert!(wheel.sha256.len() == 64 && wheel.sha256.chars().all(|c| c.is_ascii_hexdigit()));
                assert!(!wheel.keep.is_empty(), "{}", wheel.file);
            }
        }
    }

    #[test]
    fn a_file_name_says_requirement_and_platforms() {
        let cudart = &LINUX_X86_64_CPU[1];
        assert!(cudart.requirement().starts_with("nvidia_cuda_runtime==13.0.96 --hash=sha256:7f82"));
        let platforms: Vec<_> = cudart.platforms().collect();
        assert_eq!(platforms, ["manylinux2014_x86_64", "manylinux_2_17_x86_64"]);
    }

    #[test]
    fn only_what_is_needed_is_kept() {
        let torch = &LINUX_X86_64_CPU[0];
        assert!(torch.keeps("torch/lib/libtorch_cpu.so"));
        assert!(torch.keeps("torch/include/torch/csrc/api/include/torch/torch.h"));
        assert!(torch.keeps("torch-2.13.0.dist-info/licenses/LICENSE"));
        assert!(!torch.keeps("torch/lib/libtorch_cuda.so"));
        assert!(!torch.keeps("torch/nn/functional.py"));
    }

    #[test]
    fn flavours_live_in_folders_of_their_own() {
        let names: std::collections::BTreeSet<_> = BUNDLES.iter().map(Bundle::folder_name).collect();
        assert_eq!(names.len(), BUNDLES.len());
    }
}
