//! Link options of the shared library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The library owns threads. If the last DROP FUNCTION unmapped it, they would run into nothing.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
