//! A project of docker compose; dropping it takes it down.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{bail, Context as _, Result};

use super::engine::Engine;
use testkit::fetch::output;
use testkit::library::workspace_root;

/// Containers, networks and volumes of a compose file, under a name of their own.
pub(super) struct Project<'a> {
    engine: &'a Engine,
    name: String,
    variables: Vec<(String, String)>,
    /// An override file for docker-compose.yml.
    extra: Option<PathBuf>,
    up: bool,
}

impl<'a> Project<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        name: &str,
        variables: Vec<(String, String)>,
        extra: Option<PathBuf>,
    ) -> Project<'a> {
        let name = format!("mysql-ml-{name}-{}", std::process::id());
        Project { engine, name, variables, extra, up: true }
    }

    /// Sets a variable of the compose file.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.engine.docker();
        command.args(["compose", "--progress", "quiet", "--project-name", &self.name, "--file", "docker-compose.yml"]);
        if let Some(extra) = &self.extra {
            command.arg("--file").arg(extra);
        }
        command.args(arguments).current_dir(workspace_root());
        // The developer's own shell sets these for the developer's own containers.
        for name in ["HTTPS_PROXY", "NO_PROXY", "EMBEDDINGS_MODEL", "MYSQL_ML_PORT"] {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs docker compose; an error includes the containers' logs.
    pub(super) fn compose(&self, arguments: &[&str]) -> Result<()> {
        self.compose_output(arguments).map(drop)
    }

    /// Runs docker compose and returns its output.
    pub(super) fn compose_output(&self, arguments: &[&str]) -> Result<String> {
        output(self.command(arguments)).or_else(|error| {
            let log = output(self.command(&["logs", "--tail", "30"])).unwrap_or_default();
            bail!("docker compose {}: {error:#}\n{log}", arguments.join(" "))
        })
    }

    /// Runs a statement in the container as root and returns the bare result.
    pub(super) fn mysql(&self, password: &str, sql: &str) -> Result<String> {
        let variable = format!("MYSQL_PWD={password}");
        let client = ["mysql", "-uroot", "--skip-column-names", "--batch", "--raw", "--execute", sql];
        let arguments = [&["exec", "-T", "--env", &variable, "mysql"], client.as_slice()].concat();
        output(self.command(&arguments)).with_context(|| format!("in the container: {sql}"))
    }

    /// Removes containers and volumes.
    pub(super) fn down(mut self) -> Result<()> {
        self.up = false;
        self.compose(&["--profile", "demo", "down", "--volumes", "--timeout", "20"])
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if self.up {
            // Best effort, after a failure that is reported.
            let _ = output(self.command(&["--profile", "demo", "down", "--volumes", "--timeout", "5"]));
        }
    }
}
