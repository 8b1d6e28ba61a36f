//! Developer commands; see `cargo xtask help`.

use anyhow::Result;
use xtask::mysqld::{Distribution, Server, ServerOptions};
fn main() -> Result<()> {
    let d = Distribution::find_or_fetch(&|s| eprintln!("{s}"))?;
    let lib = xtask::library::build(false, &|s| eprintln!("{s}"))?;
    let s = Server::start(&d, ServerOptions { library: Some(lib), keep: true, ..Default::default() })?;
    let mut c = s.connect("root")?;
    xtask::sqlscript::run(&mut c, &std::fs::read_to_string(xtask::library::workspace_root().join("install.sql"))?, "install.sql")?;
    println!("{}", s.socket().display());
    let mut l = String::new();
    std::io::stdin().read_line(&mut l)?;
    Ok(())
}
