//! Tells the loader where the worker finds libtorch, so that it starts with no variable set: first where
//! `cargo xtask install` puts the libraries, then the libtorch that the worker was built against.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let built_against = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where it found libtorch");
    let beside_worker =
        if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos") { "@loader_path" } else { "$ORIGIN" };
    println!("cargo::rustc-link-arg=-Wl,-rpath,{beside_worker}/../../lib/neftpipe/torch/lib");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{built_against}");
}
