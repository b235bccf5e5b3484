//! Builds the C++ beside the worker against the libtorch that torch-sys found, and tells the loader where the worker finds
//! libtorch, so that it starts with no variable set: first where `cargo xtask install` puts the libraries, then the libtorch
//! that the worker was built against.

use std::env;
use std::path::Path;

/// Its folder.
const NATIVE: &str = "src/native";

/// Sets of instructions that the kernels are compiled for, with the flags that GCC and Clang know them by.
const LEVELS: [(&str, &[&str]); 3] = [
    ("plain", &[]),
    ("avx2", &["-mavx2", "-mfma"]),
    ("avx512", &["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let built_against = env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where it found libtorch");
    build_native(Path::new(&built_against));
    let beside_worker =
        if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos") { "@loader_path" } else { "$ORIGIN" };
    println!("cargo::rustc-link-arg=-Wl,-rpath,{beside_worker}/../../lib/neftpipe/torch/lib");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{built_against}");
}

fn build_native(lib: &Path) {
    for variable in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed={NATIVE}");
    let root = env::var("LIBTORCH_INCLUDE").unwrap_or_else(|_| format!("{}/..", lib.display()));
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    // The kernels first: what uses others stands before them on the linker's command line, where cargo puts what comes last.
    let x86_64 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    for (level, flags) in LEVELS.into_iter().filter(|(level, _)| x86_64 || *level == "plain") {
        let mut build = cpp();
        // A sum of products rounds once; vectors are passed in registers that are inlined away.
        build.flags(["-ffp-contract=fast", "-Wno-psabi"]).flags(flags).define("NEFTPIPE_LEVEL", level);
        build.file(format!("{NATIVE}/level.cpp")).compile(&format!("neftpipe_kernels_{level}"));
    }
    if x86_64 {
        let mut build = cpp();
        build.flags(["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16"]);
        // GCC 12 warns of its own headers.
        build.flag_if_supported("-Wno-maybe-uninitialized");
        build.file(format!("{NATIVE}/products.cpp")).compile("neftpipe_products");
    }
    let mut build = cpp();
    build.file(format!("{NATIVE}/kernels.cpp")).file(format!("{NATIVE}/native.cpp"));
    for include in ["include", "include/torch/csrc/api/include"] {
        build.flag("-isystem").flag(format!("{root}/{include}"));
    }
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // libtorch's own threads, which are those of its libgomp.
        build.flag("-fopenmp");
        println!("cargo::rustc-link-lib=gomp");
    }
    build.define("_GLIBCXX_USE_CXX11_ABI", abi.as_str()).compile("neftpipe_native");
}

fn cpp() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3);
    build
}
