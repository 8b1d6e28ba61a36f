//! Ports on which a connection fails.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{bail, Context};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// A port of 127.0.0.1 that refuses connections.
pub fn refused_port() -> u16 {
    // Bound but not listening: it refuses, and no other process can get the port. The socket is leaked on purpose, so
    // that this stays so for the life of the process.
    let reserve = || -> anyhow::Result<u16> {
        let (socket, address) = bound()?;
        std::mem::forget(socket);
        Ok(address.port())
    };
    // Port 1 (tcpmux) is not in use on any machine of this century.
    reserve().unwrap_or(1)
}

fn bound() -> anyhow::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).context("socket")?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&SockAddr::from(any)).context("bind")?;
    let address = socket.local_addr().context("local address")?;
    let address = address.as_socket().context("not an IP address")?;
    Ok((socket, address))
}

/// A port where connecting neither succeeds nor fails. Its listener never accepts and has a full backlog, so that
/// Linux drops further connection requests.
pub struct Blackhole {
    _listener: Socket,
    _queued: Vec<TcpStream>,
    port: u16,
}

impl Blackhole {
    /// Opens one on 127.0.0.1; an error if the system queues connections without a limit.
    pub fn open() -> anyhow::Result<Self> {
        const ATTEMPTS: usize = 16;
        let (listener, address) = bound()?;
        listener.listen(0).context("listen")?;
        let mut queued = Vec::new();
        for _ in 0..ATTEMPTS {
            match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                Ok(stream) => queued.push(stream),
                Err(_) => return Ok(Self { _listener: listener, _queued: queued, port: address.port() }),
            }
        }
        bail!("{ATTEMPTS} connections were queued by a listener with a backlog of 0");
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}
