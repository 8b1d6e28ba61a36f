//! The fake alone, until the process is ended: `fake-providers [ADDRESS:PORT]`, 127.0.0.1 and a free port by default.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let listen = match std::env::args().nth(1) {
        Some(address) => address.parse::<SocketAddr>().context("usage: fake-providers [ADDRESS:PORT]")?,
        None => (Ipv4Addr::LOCALHOST, 0).into(),
    };
    fake_providers::serve(listen)
}
