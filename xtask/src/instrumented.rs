//! Builds with instruments: the fuzz targets under libFuzzer, the tests of the C interface under AddressSanitizer.

use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};
use testkit::library::workspace_root;

/// Coverage for libFuzzer, as cargo-fuzz sets it; the stable compiler takes these.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Flags apply to the target only if it is named; build scripts and macros are built without.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Runs a fuzz target. New inputs are kept below target/fuzz; an input that fails is printed and kept there too.
pub fn fuzz(target: &str, seconds: u64, seed: u64, progress: &dyn Fn(&str)) -> Result<()> {
    let root = workspace_root();
    let seeds = root.join("fuzz/corpus");
    if target.contains('/') || !seeds.join(target).is_dir() {
        let mut names: Vec<String> =
            seeds.read_dir()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        bail!("'{target}' is not a target; there are sql, {}", names.join(", "));
    }
    progress("building the targets (profile fuzz)");
    let build = ["build", "--profile", "fuzz", "--package", "fuzz", "--features", "libfuzzer", "--target", TRIPLE];
    run(cargo(&root).args(build).env("RUSTFLAGS", COVERAGE))?;
    let kept = root.join("target/fuzz").join(target);
    std::fs::create_dir_all(&kept)?;
    progress(&format!("{target}, {seconds} s, seed {seed}"));
    run(Command::new(root.join("target").join(TRIPLE).join("fuzz/fuzz"))
        .arg(&kept)
        .arg(seeds.join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-seed={}", seed % u64::from(u32::MAX)))
        .arg(format!("-artifact_prefix={}/failed-{target}-", root.join("target/fuzz").display()))
        .args(["-timeout=20", "-rss_limit_mb=2048", "-max_len=4096", "-print_final_stats=1"])
        .env("FUZZ_TARGET", target))
}

/// Runs tests/abi.rs under AddressSanitizer, which needs an option of unstable compilers.
pub fn asan(progress: &dyn Fn(&str)) -> Result<()> {
    progress("building and running tests/abi.rs with AddressSanitizer");
    let root = workspace_root();
    // A folder of its own: RUSTC_BOOTSTRAP would have macros built anew in the usual one, and again without it.
    let folder = root.join("target/asan");
    let mut command = cargo(&root);
    command.args(["test", "--package", "mysql-ml", "--no-default-features", "--test", "abi", "--target", TRIPLE]);
    run(command
        .env("RUSTC_BOOTSTRAP", "1")
        // One test loads the library, and would otherwise build it.
        .env("MYSQL_ML_TEST_LIBRARY", folder.join(TRIPLE).join("debug/libmysql_ml.so"))
        .env("CARGO_TARGET_DIR", folder)
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // The library's threads and caches live as long as the process. Freed memory that waits would look like growth.
        .env("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=1:quarantine_size_mb=1"))
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("it failed ({status})");
    }
    Ok(())
}
