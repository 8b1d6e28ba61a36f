//! Runs the fake until the process ends: `fake-providers [ADDRESS:PORT]`; the default is 127.0.0.1 and a free port.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let listen = match std::env::args().nth(1) {
        Some(address) => address.parse::<SocketAddr>().context("usage: fake-providers [ADDRESS:PORT]")?,
        None => (Ipv4Addr::LOCALHOST, 0).into(),
    };
    fake_providers::serve(listen)
}
