//! Builds the C++ beside the worker against the libtorch that torch-sys found, and tells the loader where the worker finds
//! libtorch, so that it starts with no variable set: first where `cargo xtask install` puts the libraries, then the libtorch
//! that the worker was built against.

use std::env;
use std::path::Path;

const NATIVE: &str = "src/native/native.cpp";

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
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .flag("-isystem")
        .flag(format!("{root}/include"))
        .flag("-isystem")
        .flag(format!("{root}/include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file(NATIVE)
        .compile("neftpipe_native");
}
