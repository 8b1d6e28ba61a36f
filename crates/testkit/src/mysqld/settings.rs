//! Options of a test server, and helpers for options and logs.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Lines of an error log in an error message.
const TAIL_LINES: usize = 40;

/// Options for a fast start and end, and little memory.
///
/// The data survive a crash of the server, but not of the machine.
pub(super) fn light() -> Vec<&'static str> {
    let mut options = vec![
        "--innodb-buffer-pool-size=32M",
        "--innodb-log-buffer-size=1M",
        "--innodb-redo-log-capacity=8M",
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-doublewrite=OFF",
        "--innodb-buffer-pool-load-at-startup=OFF",
        "--innodb-buffer-pool-dump-at-shutdown=OFF",
        // The system limits asynchronous requests; many concurrent servers use them up.
        "--innodb-use-native-aio=OFF",
        // The performance schema takes memory in proportion to it.
        "--table-open-cache=400",
        "--table-definition-cache=400",
    ];
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        // The server runs as root only with this option.
        options.push("--user=root");
    }
    options
}

/// Whether an option must be the same at initialization and later.
pub(super) fn shapes_data(arg: &str) -> bool {
    ["lower-case-table-names", "innodb-page-size"].iter().any(|option| is_option(arg, option))
}

/// Whether the options leave the X Protocol on, which is the default.
pub(super) fn has_x_protocol(args: &[String]) -> bool {
    let off = |arg: &str| {
        let value = arg.split_once('=').map_or("", |(_, value)| value);
        let named_off = ["skip-mysqlx", "disable-mysqlx"].iter().any(|option| is_option(arg, option));
        let valued_off = ["off", "0", "false"].iter().any(|word| value.eq_ignore_ascii_case(word));
        named_off || (valued_off && is_option(arg, "mysqlx"))
    };
    !args.iter().any(|arg| off(arg))
}

/// Whether any option concerns the binary log.
pub(super) fn mentions_binary_log(args: &[String]) -> bool {
    args.iter().any(|arg| arg.replace('_', "-").contains("log-bin"))
}

/// Whether `arg` sets the option; the server accepts underscores for hyphens.
fn is_option(arg: &str, option: &str) -> bool {
    let name = arg.split('=').next().unwrap_or_default();
    name.trim_start_matches('-').replace('_', "-") == option
}

/// Redirects a command's output to its log, which is searched for messages of the dynamic loader.
pub(super) fn send_output_to(command: &mut Command, log: &Path) -> anyhow::Result<()> {
    let open = || -> std::io::Result<(File, File)> {
        let file = File::options().append(true).create(true).open(log)?;
        Ok((file.try_clone()?, file))
    };
    let (stdout, stderr) = open().with_context(|| format!("cannot open {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    Ok(())
}

/// The contents of a log; empty if there is none.
pub(super) fn read(log: &Path) -> String {
    // A log may hold bytes of statements that are not UTF-8.
    fs::read(log).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = read(log);
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(TAIL_LINES);
    lines.get(start..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_options_in_their_spellings() {
        assert!(shapes_data("--lower_case_table_names=1"));
        assert!(shapes_data("--lower-case-table-names=1"));
        assert!(!shapes_data("--lower-case-table-names-x=1"));
        for off in ["--mysqlx=OFF", "--mysqlx=0", "--skip-mysqlx", "--skip_mysqlx"] {
            assert!(!has_x_protocol(&[off.to_owned()]), "{off}");
        }
        for on in ["--mysqlx=ON", "--mysqlx-max-connections=0", "--mysqlx"] {
            assert!(has_x_protocol(&[on.to_owned()]), "{on}");
        }
        assert!(mentions_binary_log(&["--log_bin=x".to_owned()]));
        assert!(!mentions_binary_log(&["--port=1".to_owned()]));
    }
}
