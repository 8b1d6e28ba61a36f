//! Runs the commands of docs/install.md in a temporary Debian with MySQL 9.7.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};
use tempfile::TempDir;

use testkit::fetch::{debian, output};
use testkit::library::workspace_root;

/// The page, and the first words of the blocks to run.
const PAGE: &str = "docs/install.md";
const RUN: &str = "```sh run";

/// Time limit of the server's start and of its end.
const LIMIT: Duration = Duration::from_secs(60);

/// Installs the files of a release, for this machine's processor, as the page says.
pub(super) fn run(files: &[PathBuf], progress: &dyn Fn(&str)) -> Result<()> {
    let blocks = blocks()?;
    ensure!(!blocks.is_empty(), "{PAGE} has no blocks that begin with {RUN}");
    let system = debian::system(debian::SUITE, &debian::PACKAGES, progress)?;
    let machine = Machine::copy_of(&system)?;
    let download = machine.root().join("root/download");
    fs::create_dir_all(&download)?;
    for file in files {
        let name = file.file_name().with_context(|| format!("{} has no name", file.display()))?;
        fs::copy(file, download.join(name))?;
    }
    let mut server = ServerInside::start(&machine)?;
    for (line, block) in blocks {
        progress(&format!("{PAGE}, line {line}"));
        let printed = machine.shell(&block).with_context(|| format!("{PAGE}, the block at line {line}"))?;
        for line in printed.lines() {
            progress(&format!("    {line}"));
        }
        // The page says so where it matters; a folder has no systemd to restart the server.
        if block.contains("mv ") || block.contains("apt-get install") || block.contains("dpkg ") {
            ensure!(server.is_running(), "the server did not survive the block at line {line}");
            server.stop()?;
            server = ServerInside::start(&machine)?;
        }
    }
    server.stop()
}

/// The blocks to run, with the line of each.
fn blocks() -> Result<Vec<(usize, String)>> {
    let page = fs::read_to_string(workspace_root().join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line == RUN {
            let code = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            blocks.push((number + 1, code.map(|line| format!("{line}\n")).collect()));
        }
    }
    Ok(blocks)
}

/// A system in a folder.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn copy_of(system: &Path) -> Result<Machine> {
        let folder = tempfile::tempdir()?;
        let mut copy = Command::new("cp");
        copy.arg("--archive").arg("--no-target-directory").arg(system).arg(folder.path());
        output(copy).context("cannot copy the system")?;
        Ok(Machine { folder })
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A command in the folder, as root.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.root()).arg(program).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command
    }

    /// Runs lines of a shell script in /root/download, up to the first failure.
    fn shell(&self, text: &str) -> Result<String> {
        let mut bash = self.command("bash");
        bash.args(["-euo", "pipefail", "-c", &format!("cd /root/download\n{text}")]);
        output(bash)
    }
}

/// A mysqld in the folder, with its built-in settings.
struct ServerInside<'a> {
    machine: &'a Machine,
    process: Child,
}

impl<'a> ServerInside<'a> {
    fn start(machine: &'a Machine) -> Result<ServerInside<'a>> {
        let root = machine.root();
        if !root.join("var/lib/mysql/mysql").exists() {
            // Not var/run: in the folder it is a link to the host's /run.
            for folder in ["var/lib/mysql", "var/lib/mysql-files", "run/mysqld"] {
                fs::create_dir_all(root.join(folder))?;
            }
            let mut initialise = machine.command("mysqld");
            initialise.args(["--initialize-insecure", "--user=root", "--innodb-use-native-aio=OFF"]);
            output(initialise).context("cannot initialise the server")?;
        }
        let log = File::create(root.join("mysqld.log"))?;
        let process = machine
            .command("mysqld")
            .args(["--user=root", "--skip-networking", "--mysqlx=OFF", "--innodb-use-native-aio=OFF"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = ServerInside { machine, process };
        let end = Instant::now() + LIMIT;
        while machine.shell("mysql --execute='DO 0'").is_err() {
            if !server.is_running() || Instant::now() > end {
                let log = fs::read_to_string(root.join("mysqld.log")).unwrap_or_default();
                bail!("the server does not start:\n{log}");
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    fn stop(mut self) -> Result<()> {
        self.machine.shell("mysqladmin shutdown")?;
        let end = Instant::now() + LIMIT;
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the server ended badly ({status})"),
                None if Instant::now() > end => bail!("the server does not end"),
                None => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for ServerInside<'_> {
    fn drop(&mut self) {
        if self.is_running() {
            // After a failure, which is reported.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
