//! A Docker engine: the running one, or else a private one that ends with this process.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{bail, Context as _, Result};
use tempfile::TempDir;

use testkit::fetch::{cache, debian, output};

/// Time limit until a new engine answers, and until it ends.
const LIMIT: Duration = Duration::from_secs(60);

/// Debian's packages of `docker compose` and `docker buildx`.
const PLUGINS: [&str; 2] = ["docker-compose", "docker-buildx"];

/// The environment of docker commands, and the private daemon if there is one.
#[derive(Debug)]
pub(super) struct Engine {
    variables: Vec<(String, String)>,
    daemon: Option<Child>,
    // Dropped after the daemon, which writes there.
    _folder: TempDir,
}

impl Engine {
    /// The engine that `docker` reaches; otherwise a private one, if this is root and has a `dockerd`.
    pub(super) fn find_or_start(progress: &dyn Fn(&str)) -> Result<Engine> {
        let mut engine = Engine { variables: Vec::new(), daemon: None, _folder: tempfile::tempdir()? };
        engine.add_plugins(progress)?;
        if engine.answers() {
            return Ok(engine);
        }
        progress("starting a private Docker engine");
        let folder = engine._folder.path().to_owned();
        let socket = format!("unix://{}", folder.join("docker.sock").display());
        let log = fs::File::create(folder.join("dockerd.log"))?;
        let daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(data_root()?)
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .args(["--host", &socket])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("no Docker engine runs, and dockerd cannot be started")?;
        engine.daemon = Some(daemon);
        engine.variables.push(("DOCKER_HOST".into(), socket));
        let end = Instant::now() + LIMIT;
        while !engine.answers() {
            let ended = engine.daemon.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > end {
                let log = fs::read_to_string(folder.join("dockerd.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(10).collect();
                bail!("the Docker engine does not start:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(engine)
    }

    /// `docker` with its options; the caller adds arguments.
    pub(super) fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("DOCKER_BUILDKIT", "1").stdin(Stdio::null());
        command
    }

    fn answers(&self) -> bool {
        let mut command = self.docker();
        command.args(["version", "--format", "{{.Server.Version}}"]);
        output(command).is_ok()
    }

    /// The system's plugins if it has both, otherwise Debian's, in a private configuration.
    fn add_plugins(&mut self, progress: &dyn Fn(&str)) -> Result<()> {
        let has = |plugin: &str| {
            let mut command = self.docker();
            command.args([plugin, "version"]);
            output(command).is_ok()
        };
        if has("compose") && has("buildx") {
            return Ok(());
        }
        let host = debian::architecture()?;
        let folder = cache::get_or_make(&format!("docker-plugins-{host}"), progress, |folder| {
            progress("fetching docker compose and buildx from Debian (about 30 MB, once)");
            let wanted = |file: &str| PLUGINS.iter().any(|name| file.starts_with(name));
            debian::unpack_into(folder, &[host], &PLUGINS.map(str::to_owned), &wanted)
        })?;
        let config = self._folder.path().join("config");
        let plugins = config.join("cli-plugins");
        fs::create_dir_all(&plugins)?;
        for name in PLUGINS {
            symlink(folder.join("root/usr/libexec/docker/cli-plugins").join(name), plugins.join(name))?;
        }
        self.variables.push(("DOCKER_CONFIG".into(), config.display().to_string()));
        Ok(())
    }
}

/// Built images stay there: the next run builds only the changes.
fn data_root() -> Result<PathBuf> {
    match env::var_os("MYSQL_ML_DOCKER_ROOT").filter(|path| !path.is_empty()) {
        Some(path) => Ok(PathBuf::from(path)),
        None => Ok(cache::folder()?.join("docker")),
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let mut kill = Command::new("kill");
        kill.arg(daemon.id().to_string());
        // Best effort: a request to end, then a kill.
        let _ = kill.status();
        let end = Instant::now() + LIMIT;
        while matches!(daemon.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = daemon.kill();
                let _ = daemon.wait();
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
