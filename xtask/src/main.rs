//! Developer commands: `cargo xtask demo`, `server`, `install`, `sql`, `dist`, `container`, `endpoint`, `fuzz`, `soak`,
//! `asan`, `mtr`, `bench`, `book`.

mod bench;
mod book;
mod container;
mod dist;
mod instrumented;
mod mtr;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use mysql::Conn;
use surface::scripts;
use testkit::mysqld::{Distribution, Server, ServerOptions};
use testkit::{demo, fuzz, library, sqlscript, weights};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of mysql-ml", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a private MySQL with the library, embeds a collection of texts and searches it by meaning
    Demo {
        /// Leaves the server running until Enter or Ctrl-C
        #[arg(long)]
        keep: bool,
    },
    /// Starts a private MySQL with the library installed and stays until Enter or Ctrl-C
    Server {
        /// More options for mysqld, after --
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Builds the library and installs it into a running server on this machine
    Install {
        /// The server: mysql://user:password@host:port or mysql://user@localhost?socket=/path
        #[arg(long, env = "MYSQL_ML_URL", hide_env_values = true)]
        url: String,
    },
    /// Writes the generated sections of the SQL scripts from the tables in crates/surface
    Sql {
        /// Writes nothing, and fails if a script differs
        #[arg(long)]
        check: bool,
    },
    /// Makes the files of a release: archives, debug symbols, Debian packages, checksums
    Dist {
        /// The processors
        #[arg(long, value_delimiter = ',', default_value = "x86_64")]
        arch: Vec<dist::Architecture>,
        /// The output folder
        #[arg(long, default_value = "target/release-files")]
        out: PathBuf,
        /// Follows docs/install.md with the files, in a Debian unpacked for it; needs root and debootstrap
        #[arg(long)]
        follow: bool,
    },
    /// Builds the container of docker-compose.yml, tries it, and runs the SQL suite and the client tests against it
    Container {
        /// The base images
        #[arg(long, default_value = "official")]
        images: container::Images,
    },
    /// Runs the tests' model endpoint until the process ends
    Endpoint {
        /// Address and port
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Sends random statements to a private server (sql), or random bytes to one of the targets in fuzz/corpus
    Fuzz {
        /// The subject: sql, or a target
        what: String,
        /// The duration in seconds
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Seed of the statements or bytes; default: a new one each time
        #[arg(long)]
        seed: Option<u64>,
        /// The number of concurrent sessions, for sql
        #[arg(long, default_value_t = 8)]
        sessions: usize,
    },
    /// Sends random statements from many sessions for a long time; memory, threads and connections must stay flat
    Soak {
        /// The duration in minutes
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// The number of concurrent sessions
        #[arg(long, default_value_t = 64)]
        sessions: usize,
        /// Seed of the statements; default: a new one each time
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Runs the tests of the C interface under AddressSanitizer
    Asan,
    /// Runs tests of MySQL's own suite without and with the library, and fails if a result differs
    Mtr {
        /// A regular expression for the tests' names; default: functions, stored programs, privileges, replication
        #[arg(long)]
        tests: Option<String>,
        /// The longest time of each of the two runs
        #[arg(long, default_value_t = 60)]
        minutes: u64,
    },
    /// Renders the documentation as a book with mdBook, and checks its links
    Book {
        /// The output folder, which is replaced
        #[arg(long, default_value = "target/book")]
        out: PathBuf,
    },
    /// Measures, compared with a baseline in the same run
    Bench {
        /// The subject
        what: Bench,
        /// Writes the report to docs/benchmarks
        #[arg(long)]
        write: bool,
        /// Texts or vectors per round; default 5000 texts, 100000 vectors
        #[arg(long)]
        rows: Option<usize>,
        /// Rounds; each measures everything once
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Time of a request in milliseconds, for generate
        #[arg(long, default_value_t = 900)]
        ms: u64,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// One call a row, against a plain loop
    Call,
    /// Whole tables, against plain programs
    Bulk,
    /// Memory of the server while a large table is embedded
    Memory,
    /// Distances over a table, against a plain scan
    Distance,
    /// An embedding from memory, from disk and from the local endpoint
    Cache,
    /// A model inside the server, against sentence-transformers and onnxruntime
    Local,
    /// Passages ranked by a model inside the server, against onnxruntime
    Rerank,
    /// A question about every row, against plain programs
    Generate,
    /// One of two endpoints killed under 64 sessions; hedging of slow answers
    Endpoints,
    /// The arithmetic of the vector index, without a server
    Index,
    /// Search by a vector index, against the scan of the table
    Search,
}

fn main() -> Result<()> {
    let progress = |step: &str| eprintln!("-- {step}");
    match Cli::parse().command {
        Command::Demo { keep } => {
            let models = weights::models(&progress);
            if let Err(error) = &models {
                progress(&format!("no weights of a real model: {error:#}"));
            }
            let env = models.iter().map(|m| ("MYSQL_ML_MODELS_DIR".to_owned(), m.display().to_string())).collect();
            let running = start_with(true, Vec::new(), env, &progress)?;
            demo::run(&running.server, models.is_ok())?;
            if keep {
                stay(&running.server);
            } else {
                println!(
                    "# The server stops now. `cargo xtask demo --keep` leaves it up; a client is opened on it with\n"
                );
                println!("  {}\n", shell_line(&running.server.client("root")));
            }
            progress("stopping the server");
            running.stop()
        }
        Command::Server { args } => {
            let running = start(true, args, &progress)?;
            stay(&running.server);
            running.stop()
        }
        Command::Install { url } => {
            let built = library::build(true, &progress)?;
            let opts = mysql::Opts::from_url(&url).context("--url is not a MySQL URL")?;
            let mut conn = Conn::new(opts).context("cannot connect to the server")?;
            library::install(&mut conn, &built, &library::workspace_root())?;
            println!("installed; try: SELECT mysql.ml_version();");
            Ok(())
        }
        Command::Sql { check } => {
            let folder = library::workspace_root();
            match check {
                true => {
                    let differing = scripts::check(&folder)?;
                    if !differing.is_empty() {
                        bail!("{} differ from the tables; run: cargo xtask sql", differing.join(", "));
                    }
                }
                false => {
                    for name in scripts::write(&folder)? {
                        progress(&format!("written: {name}"));
                    }
                }
            }
            Ok(())
        }
        Command::Dist { arch, out, follow } => {
            let folder = std::path::absolute(out)?;
            for file in dist::run(&dist::Options { architectures: arch, folder, follow }, &progress)? {
                println!("{}", file.display());
            }
            Ok(())
        }
        Command::Book { out } => {
            let pages = book::build(&out, &progress)?;
            println!("{pages} pages in {}", out.join("index.html").display());
            Ok(())
        }
        Command::Container { images } => container::run(images, &progress),
        Command::Endpoint { listen } => fake_providers::serve(listen),
        Command::Mtr { tests, minutes } => mtr::run(tests.as_deref(), minutes, &progress),
        Command::Asan => instrumented::asan(&progress),
        Command::Fuzz { what, seconds, seed, sessions } => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
            if what != "sql" {
                return instrumented::fuzz(&what, seconds, seed, &progress);
            }
            random_statements(fuzz::Options { seconds, seed, sessions, settle: None }, &progress)
        }
        Command::Soak { minutes, sessions, seed } => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
            // Threads of the library end when they were idle for some seconds, and connections with them.
            let settle = Some(Duration::from_secs(120));
            random_statements(fuzz::Options { seconds: minutes * 60, seed, sessions, settle }, &progress)
        }
        Command::Bench { what, write, rows, rounds, ms } => {
            let rows = rows.unwrap_or(match what {
                Bench::Call | Bench::Cache => 5000,
                Bench::Local | Bench::Generate => 1000,
                Bench::Rerank => 100,
                Bench::Bulk | Bench::Endpoints => 10_000,
                Bench::Distance | Bench::Index | Bench::Search => 100_000,
                Bench::Memory => 1_000_000,
            });
            if rows == 0 || rounds == 0 {
                bail!("--rows and --rounds must be at least 1");
            }
            if cfg!(debug_assertions)
                && matches!(what, Bench::Distance | Bench::Bulk | Bench::Memory | Bench::Index | Bench::Search)
            {
                progress("building xtask (release): its own computations must be optimised");
                return again_in_release();
            }
            if let Bench::Index = what {
                return report(
                    vec![("vector-index.md", bench::index::run(rows, rounds, &progress)?)],
                    write,
                    &progress,
                );
            }
            let args = match what {
                Bench::Call
                | Bench::Cache
                | Bench::Local
                | Bench::Rerank
                | Bench::Generate
                | Bench::Endpoints
                | Bench::Index => Vec::new(),
                Bench::Bulk => bench::bulk::server_args(),
                Bench::Distance => bench::distance::server_args(rows),
                Bench::Search => bench::search::server_args(rows),
                Bench::Memory => bench::memory::server_args(),
            };
            let models = tempfile::tempdir()?;
            let env = match what {
                Bench::Local => {
                    vec![("MYSQL_ML_MODELS_DIR".to_owned(), weights::models(&progress)?.display().to_string())]
                }
                Bench::Rerank => {
                    weights::reranker(&models.path().join("reranker"), &progress)?;
                    vec![("MYSQL_ML_MODELS_DIR".to_owned(), models.path().display().to_string())]
                }
                _ => Vec::new(),
            };
            let running = start_with(true, args, env, &progress)?;
            let files = match what {
                Bench::Index => Vec::new(),
                Bench::Endpoints => {
                    vec![("endpoints.md", bench::endpoints::run(&running.server, rows, rounds, &progress)?)]
                }
                Bench::Search => vec![("search.md", bench::search::run(&running.server, rows, rounds, &progress)?)],
                Bench::Call => {
                    let (report, plot) = bench::call::run(&running.server, rows, rounds, &progress)?;
                    vec![("call.md", report), ("call.svg", plot)]
                }
                Bench::Bulk => {
                    let (report, plot) = bench::bulk::run(&running.server, rows, rounds, &progress)?;
                    vec![("bulk.md", report), ("bulk.svg", plot)]
                }
                Bench::Memory => vec![("memory.md", bench::memory::run(&running.server, rows, &progress)?)],
                Bench::Local => vec![("local.md", bench::local::run(&running.server, rows, rounds, &progress)?)],
                Bench::Rerank => vec![("rerank.md", bench::rerank::run(&running.server, rows, rounds, &progress)?)],
                Bench::Generate => {
                    let report = bench::generate::run(&running.server, rows, ms, rounds, &progress)?;
                    vec![("generate.md", report)]
                }
                Bench::Cache => {
                    let (report, plot) = bench::cache::run(&running.server, rows, rounds, &progress)?;
                    vec![("cache.md", report), ("cache.svg", plot)]
                }
                Bench::Distance => {
                    let report = bench::distance::run(&running.server, rows, rounds, &progress)?;
                    vec![("distance.md", report.text), ("distance.svg", report.svg)]
                }
            };
            report(files, write, &progress)?;
            running.stop()
        }
    }
}

fn random_statements(options: fuzz::Options, progress: &dyn Fn(&str)) -> Result<()> {
    let distribution = Distribution::find_or_fetch(progress)?;
    let built = library::build(false, progress)?;
    let report = fuzz::run(&distribution, &built, &options, progress)?;
    let [first, second] = report.peak_mib;
    println!(
        "{} statements, of which {} succeeded and {} were killed; seed {}; the server's memory: at most {first} MiB in the first half, {second} MiB in the second",
        report.statements, report.succeeded, report.killed, options.seed
    );
    println!("the most frequent errors: {:?}", report.errors);
    Ok(())
}

/// Prints the first of the files, and with `write` writes all to docs/benchmarks.
fn report(files: Vec<(&str, String)>, write: bool, progress: &dyn Fn(&str)) -> Result<()> {
    if let Some((_, report)) = files.first() {
        println!("{report}");
    }
    if write {
        let folder = library::workspace_root().join("docs/benchmarks");
        std::fs::create_dir_all(&folder)?;
        for (name, contents) in files {
            let file = folder.join(name);
            std::fs::write(&file, contents)?;
            progress(&format!("written to {}", file.display()));
        }
    }
    Ok(())
}

/// Runs this program again with the same arguments, optimised.
fn again_in_release() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["run", "--release", "--quiet", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .current_dir(library::workspace_root())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the benchmark failed ({status})");
    }
    Ok(())
}

struct Running {
    server: Server,
}

impl Running {
    fn stop(mut self) -> Result<()> {
        self.server.shutdown().map(|_| ())
    }
}

fn start(release: bool, args: Vec<String>, progress: &dyn Fn(&str)) -> Result<Running> {
    start_with(release, args, Vec::new(), progress)
}

fn start_with(
    release: bool,
    args: Vec<String>,
    env: Vec<(String, String)>,
    progress: &dyn Fn(&str),
) -> Result<Running> {
    progress("looking for a MySQL 9.7 server");
    let distribution = Distribution::find_or_fetch(progress)?;
    progress(&format!("MySQL {}", distribution.version()));
    let built = library::given().map_or_else(|| library::build(release, progress), Ok)?;
    progress("starting a private server");
    let server =
        Server::start(&distribution, ServerOptions { library: Some(built), args, env, ..ServerOptions::default() })?;
    progress("installing (install.sql, install-ai.sql)");
    for name in library::INSTALL_SCRIPTS {
        let script = std::fs::read_to_string(library::workspace_root().join(name)).context(name)?;
        sqlscript::run(&mut server.connect("root")?, &script, name)?;
    }
    Ok(Running { server })
}

fn stay(server: &Server) {
    println!("\nThe server is up. Open a client on it with:\n");
    println!("  mysql --user=root --socket={}", server.socket().display());
    println!("  mysql --user=root --host=127.0.0.1 --port={}", server.port());
    println!("\nIf this machine has no client, the one that came with the server:\n");
    println!("  {}", shell_line(&server.client("root")));
    println!("\nPress Enter to stop it.");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}

/// A command as a line for a shell.
fn shell_line(command: &std::process::Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
