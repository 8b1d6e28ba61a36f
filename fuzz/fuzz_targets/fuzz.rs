//! One fuzz target under libFuzzer: the one that the environment variable `FUZZ_TARGET` names.

#![no_main]

use std::sync::LazyLock;

use fuzz::{Target, TARGETS};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET.run(data));
