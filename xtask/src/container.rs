//! `cargo xtask container`: runs docker-compose.yml as a user does, then the SQL suite and the client tests against
//! the container. If no image can be pulled, it uses stand-ins for the base images.

mod engine;
mod project;
mod standins;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{bail, ensure, Context as _, Result};

use engine::Engine;
use fake_providers::Endpoint;
use project::Project;
use testkit::library::{cargo, workspace_root};
use testkit::surroundings;

/// root's password in the containers.
const PASSWORD: &str = "a root's \"password\"";

/// The key in the compose secret.
const KEY: &str = "sk-compose-5ecret-0004";

/// The base images of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Images {
    /// The images that docker-compose.yml names, pulled
    Official,
    /// Images made from Debian's packages and this machine's crates and toolchain; needs root and debootstrap
    StandIns,
}

/// Builds the container, tries it, and runs the tests against it.
pub fn run(images: Images, progress: &dyn Fn(&str)) -> Result<()> {
    let engine = Engine::find_or_start(progress)?;
    let bases = match images {
        Images::Official => Vec::new(),
        Images::StandIns => standins::make(&engine, progress)?,
    };
    let folder = tempfile::tempdir()?;
    let password = folder.path().join("password");
    fs::write(&password, PASSWORD)?;
    let key = folder.path().join("key");
    fs::write(&key, format!("{KEY}\n"))?;
    // The containers' accounts must read the mounted files.
    for (path, mode) in [(folder.path(), 0o755), (&password, 0o644), (&key, 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    let mut variables = bases;
    variables.extend([
        ("MYSQL_ROOT_PASSWORD_FILE".to_owned(), password.display().to_string()),
        ("OPENAI_KEY_FILE".to_owned(), key.display().to_string()),
        ("MYSQL_ML_IMAGE".to_owned(), "mysql-ml-test".to_owned()),
    ]);
    let as_written = Project::new(&engine, "user", variables.clone(), None);
    progress("building the image (docker compose build)");
    as_written.compose(&["build", "--quiet"])?;
    progress("trying the container as a user has it");
    as_a_user_has_it(as_written, progress)?;
    progress("running the SQL suite and the client tests against the container");
    tests(&engine, variables, folder.path())?;
    Ok(())
}

/// The unchanged compose file: start, secrets, settings, restart, demo.
fn as_a_user_has_it(mut project: Project<'_>, progress: &dyn Fn(&str)) -> Result<()> {
    let [port] = free_ports()?;
    project.set("MYSQL_ML_PORT", &port.to_string());
    project.set("MYSQL_ML_SETTING_TIMEOUT_MS", "12345");
    project.set("MYSQL_ML_SETTING_EGRESS_ALLOWLIST", "http://127.0.0.0/8, .internal.example");
    project.set("EMBEDDINGS_MODEL", "test-384");
    project.compose(&["up", "--detach", "--wait", "--no-build"])?;
    let sql = |project: &Project<'_>, text: &str| project.mysql(PASSWORD, text);

    let version = sql(&project, "SELECT mysql.ml_version()")?;
    ensure!(version == env!("CARGO_PKG_VERSION"), "the container has version {version}");
    let settings = sql(&project, "SELECT mysql.ml_list_settings()")?;
    ensure!(
        settings.contains("12345") && settings.contains(".internal.example"),
        "settings of the environment: {settings}"
    );
    let state = project.compose_output(&["ps", "--format", "{{.Health}}", "mysql"])?;
    ensure!(state == "healthy", "the health of the container is {state}");

    // The secret's value goes into a header. The endpoint that displays it is in the container.
    sql(&project, "CALL mysql.ml_create_sm_secret_registration('openai', 'file:openai')")?;
    sql(
        &project,
        "CALL mysql.ml_create_model_registration('small', 'https://api.openai.com/v1/embeddings', 'open_ai', \
         'text_embedding', 'text-embedding-3-small', 'auth_type_secret_manager', 'openai', NULL, NULL, NULL)",
    )?;
    let key =
        project.compose_output(&["exec", "-T", "--user", "mysql", "mysql", "cat", "/run/secrets/mysql-ml/openai"])?;
    ensure!(key == KEY, "the user mysql does not read the compose secret");

    progress("restarting it");
    project.compose(&["restart", "mysql"])?;
    project.compose(&["up", "--detach", "--wait", "--no-build"])?;
    let kept = sql(&project, "SELECT GROUP_CONCAT(model_id) FROM mysql.cloudsql_ml_models")?;
    ensure!(kept == "small", "after a restart there are the models {kept}");
    // Another container on the same volume.
    project.compose(&["up", "--detach", "--wait", "--no-build", "--force-recreate"])?;
    let kept = sql(&project, "SELECT GROUP_CONCAT(model_id) FROM mysql.cloudsql_ml_models")?;
    ensure!(kept == "small", "in a new container on the volume there are the models {kept}");

    progress("running the demo (--profile demo)");
    let demo = project.compose_output(&[
        "--profile",
        "demo",
        "up",
        "--no-build",
        "--no-log-prefix",
        "--exit-code-from",
        "demo",
        "--attach",
        "demo",
        "demo",
    ])?;
    ensure!(demo.contains("body") && demo.contains("distance") && demo.contains("| id |"), "the demo printed:\n{demo}");
    // Sends the secret: the demo's server of embeddings returns the headers of a request.
    sql(
        &project,
        "CALL mysql.ml_create_model_registration('shown', 'http://embeddings/echo', 'custom', 'generic', NULL, \
         'auth_type_secret_manager', 'openai', NULL, NULL, NULL)",
    )?;
    let echo = sql(&project, "SELECT mysql.ml_predict_row('shown', '{}')")?;
    ensure!(echo.contains("Bearer ***") && !echo.contains(KEY), "the key was not sent, or was displayed: {echo}");
    project.down()
}

/// Runs the tests that accept a given server.
fn tests(engine: &Engine, variables: Vec<(String, String)>, folder: &Path) -> Result<()> {
    let [port, x_port, endpoint_port] = free_ports()?;
    let (secrets, sockets) = (folder.join("secrets"), folder.join("sockets"));
    for path in [&secrets, &sockets] {
        fs::create_dir(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let environment = {
        // The tests start it again; only its address matters here.
        let endpoint = Endpoint::start_on((Ipv4Addr::LOCALHOST, endpoint_port).into())?;
        surroundings::fill_secrets(&endpoint, &secrets)?;
        surroundings::environment(&endpoint, &secrets)
    };
    let file = folder.join("environment");
    fs::write(&file, environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>())?;
    let suite = workspace_root().join("tests/container/suite.yml");
    let mut project = Project::new(engine, "suite", variables, Some(suite));
    project.set("SUITE_PORT", &port.to_string());
    project.set("SUITE_X_PORT", &x_port.to_string());
    project.set("SUITE_ENVIRONMENT", &file.display().to_string());
    project.set("SUITE_SOCKETS", &sockets.display().to_string());
    project.set("SUITE_SECRETS", &secrets.display().to_string());
    project.compose(&["up", "--detach", "--wait", "--no-build"])?;
    let socket = sockets.join("mysqld.sock");
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let url = format!("mysql://root:{}@localhost?socket={}", encode(PASSWORD), encode(&socket.display().to_string()));
    let status = cargo()
        .args(["test", "--locked", "--package", "mysql-ml", "--test", "server", "--", "sql::", "clients::"])
        .env("MYSQL_ML_TEST_URL", url)
        .env("MYSQL_ML_TEST_ENDPOINT_PORT", endpoint_port.to_string())
        .env("MYSQL_ML_TEST_SECRETS_DIR", &secrets)
        .current_dir(workspace_root())
        .status()
        .context("cannot run cargo test")?;
    if !status.success() {
        let log = project.compose_output(&["logs", "--tail", "40", "mysql"]).unwrap_or_default();
        bail!("tests against the container failed ({status}); its log ends with:\n{log}");
    }
    project.down()
}

/// Free ports.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
