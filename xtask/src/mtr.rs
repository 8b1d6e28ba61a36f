//! MySQL's own test suite, without and with the library: its results must not differ.
//!
//! Debian's package of the suite and all that it needs are unpacked into the cache folder, and the suite runs there in a
//! namespace of its own. `mysqld --initialize` makes the suite's data directories; install.sh then installs the library
//! into them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};
use testkit::fetch::{cache, debian};
use testkit::library;

/// The suite, and what its scripts run.
const PACKAGES: [&str; 18] = [
    "mysql-testsuite",
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "gawk",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "perl",
    "procps",
    "sed",
    "tar",
    "util-linux",
];

const SUITES: &str = "main,rpl,rpl_nogtid,binlog,binlog_nogtid,service_udf_registration,test_service_sql_api,\
                      test_services,information_schema";

/// Tests of what the library touches: functions, stored programs, triggers, events, views, privileges, replication.
const TESTS: &str =
    "^(udf|sp[-_.]|sp$|trigger|event|grant|roles|func_[a-l]|view|ps_[0-9]|ps$|type_vector|create_func|kill|\
                     skip_grants|rpl_sp|rpl_trigger|rpl_udf|rpl_events|rpl_row_basic|rpl_stm_basic|rpl_user|binlog_sf|\
                     binlog_sp|binlog_stm_sp|json_func|information_schema|i_s_routines|is_routines)";

/// Where mysql-test-run.pl has made a data directory.
const MADE: &str = "  # Remove the auto.cnf so that a new auto.cnf is generated for master\n";

/// Tests that differ because they show or count everything that a server has; docs/mysql-test-suite.md says what each
/// shows of the library.
const DIFFER: [&str; 11] = [
    "main.grant",
    "main.grant_user_lock_qa",
    "main.information_schema_cs",
    "main.information_schema_cs_myisam",
    "main.roles",
    "main.roles-admin",
    "main.roles-upgrade",
    "main.udf",
    "rpl.rpl_row_basic_11bugs",
    "rpl.rpl_sp_privileges",
    "rpl.rpl_udf",
];

/// Runs the tests whose names match `tests`, each time for at most `minutes`.
pub fn run(tests: Option<&str>, minutes: u64, progress: &dyn Fn(&str)) -> Result<()> {
    let built = library::given().map_or_else(|| library::build(false, progress), Ok)?;
    let system = system(progress)?;
    let own = system.join("mysql-ml");
    fs::create_dir_all(&own)?;
    for name in library::INSTALL_SCRIPTS {
        fs::write(own.join(name), library::script(name)?)?;
    }
    fs::write(own.join("install.sh"), include_str!("mtr/install.sh"))?;
    fs::write(own.join("run.sh"), include_str!("mtr/run.sh"))?;
    fs::copy(&built, system.join("usr/lib/mysql/plugin/mysql_ml.so"))?;
    let tests = tests.unwrap_or(TESTS);
    progress("without the library");
    let without = results(&system, tests, minutes, "")?;
    progress("with the library");
    let with = results(&system, tests, minutes, "/mysql-ml/install.sh")?;
    let differing: Vec<String> = without
        .iter()
        .filter_map(|(test, before)| {
            let after = with.get(test)?;
            (before != after && !is_known(test)).then(|| format!("{test}: {before} without, {after} with the library"))
        })
        .collect();
    let passed = |results: &BTreeMap<String, String>| results.values().filter(|result| *result == "pass").count();
    println!("{} tests passed without, {} with the library", passed(&without), passed(&with));
    if passed(&without) == 0 {
        bail!("no test passed");
    }
    if !differing.is_empty() {
        bail!("different results:\n{}", differing.join("\n"));
    }
    Ok(())
}

/// Whether a test, perhaps of one format of the binary log, may differ.
fn is_known(test: &str) -> bool {
    DIFFER.contains(&test.split(' ').next().unwrap_or_default())
}

/// The suite with its system, unpacked once.
fn system(progress: &dyn Fn(&str)) -> Result<std::path::PathBuf> {
    let architecture = debian::architecture()?;
    let folder = cache::get_or_make(&format!("mysql-testsuite-{architecture}"), progress, |folder| {
        progress("fetching MySQL's test suite from Debian (about 430 MB, once)");
        debian::unpack_into(folder, &[architecture], &PACKAGES.map(str::to_owned), &|_| true)?;
        let system = folder.join("root");
        // The program expects all programs in one folder.
        for entry in fs::read_dir(system.join("usr/lib/mysql-test/bin"))? {
            let name = entry?.file_name();
            let link = system.join("usr/bin").join(&name);
            if !link.exists() {
                std::os::unix::fs::symlink(Path::new("../lib/mysql-test/bin").join(&name), link)?;
            }
        }
        for (from, to) in [("passwd.master", "passwd"), ("group.master", "group")] {
            fs::copy(system.join("usr/share/base-passwd").join(from), system.join("etc").join(to))?;
        }
        fs::write(system.join("etc/hosts"), "127.0.0.1 localhost\n")?;
        let program = system.join("usr/lib/mysql-test/mysql-test-run.pl");
        let text = fs::read_to_string(&program)?;
        let hook =
            "  if ($ENV{MYSQL_ML_INSTALL} and system('bash', $ENV{MYSQL_ML_INSTALL}, $install_datadir) != 0) {\n    \
                    mtr_error('mysql-ml could not be installed');\n  }\n\n";
        if text.matches(MADE).count() != 1 {
            bail!("this version of mysql-test-run.pl makes its data directories in another way");
        }
        fs::write(&program, text.replace(MADE, &format!("{hook}{MADE}"))).context("cannot change mysql-test-run.pl")
    })?;
    Ok(folder.join("root"))
}

/// Each test's result by its name: pass, fail or skipped.
fn results(system: &Path, tests: &str, minutes: u64, install: &str) -> Result<BTreeMap<String, String>> {
    let mut command = Command::new("unshare");
    // The namespace maps this user to root inside, so that chroot and mount are permitted.
    command.args(["--mount", "--map-root-user", "bash"]).arg(system.join("mysql-ml/run.sh")).arg(system);
    let script = "cd /usr/lib/mysql-test && exec perl mysql-test-run.pl \"$@\"";
    command.args([
        "bash",
        "-c",
        script,
        "mtr",
        "--vardir=/tmp/mysql-ml-mtr",
        "--parallel=1",
        "--force",
        "--nowarnings",
    ]);
    command.args(["--max-test-fail=0", "--retry=0", "--testcase-timeout=3"]);
    command.args([format!("--suite-timeout={minutes}"), format!("--suite={SUITES}"), format!("--do-test={tests}")]);
    let output = command.env("MYSQL_ML_INSTALL", install).output().context("cannot run unshare")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let results: BTreeMap<String, String> = text.lines().filter_map(result).collect();
    if results.is_empty() {
        bail!("the suite did not run:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(results)
}

/// `[ 10%] rpl.rpl_udf 'row'   [ pass ]   2532`.
fn result(line: &str) -> Option<(String, String)> {
    let (_, rest) = line.strip_prefix('[')?.split_once("%] ")?;
    let (name, rest) = rest.split_once("[ ")?;
    let result = rest.split_whitespace().next()?;
    Some((name.trim().to_owned(), result.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let line = "[ 10%] rpl.rpl_udf 'row'                         [ pass ]   2532";
        assert_eq!(result(line), Some(("rpl.rpl_udf 'row'".into(), "pass".into())));
        assert_eq!(result("mysqltest: At line 3"), None);
        assert!(is_known("rpl.rpl_udf 'row'") && !is_known("rpl.rpl_udf_x") && !is_known("main.udf_services"));
    }
}
