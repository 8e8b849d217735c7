//! Opening many connections at once without overrunning the server's listen queue.

use std::io;
use std::net::Ipv4Addr;

use crate::options::Options;
use crate::sys::{self, EMPTY, Epoll, Socket};

/// Connections whose handshake is under way at once.
const AT_ONCE: usize = 128;
/// Connections from one source address, well below the ports that it has.
const FROM_ONE_ADDRESS: usize = 20_000;

/// Addresses that are used of one network.
const OF_A_NETWORK: usize = 250;

/// The loopback address that connection `index` comes from, of `spread` addresses.
pub fn source(index: usize, spread: usize) -> Ipv4Addr {
    of_network(1, index, spread)
}

fn of_network(network: u8, index: usize, spread: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, network, (index % spread.clamp(1, OF_A_NETWORK)) as u8 + 1)
}

/// Open all connections of a run.
pub fn open(options: &Options) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::with_capacity(options.connections);
    open_more(options, &mut sockets, options.connections)?;
    Ok(sockets)
}

/// Open connections until there are `wanted`.
pub fn open_more(options: &Options, sockets: &mut Vec<Socket>, wanted: usize) -> io::Result<()> {
    let epoll = Epoll::new()?;
    let mut events = vec![EMPTY; AT_ONCE];
    while sockets.len() < wanted {
        let first = sockets.len();
        let last = wanted.min(first + AT_ONCE);
        for index in first..last {
            let from = match options.network {
                Some(network) => Some(of_network(network, index, OF_A_NETWORK)),
                None => (options.connections > FROM_ONE_ADDRESS)
                    .then(|| source(index, options.connections / FROM_ONE_ADDRESS + 1)),
            };
            let socket = Socket::connect(options.address, from)?;
            epoll.add(&socket, sys::WRITE, index)?;
            sockets.push(socket);
        }
        let mut waiting = last - first;
        while waiting > 0 {
            let ready = epoll.wait(&mut events, 5000)?;
            if ready == 0 {
                return Err(io::Error::other(format!(
                    "{waiting} connections are not accepted within 5 s"
                )));
            }
            for event in &events[..ready] {
                let index = event.u64 as usize;
                sockets[index].take_error()?;
                epoll.change(&sockets[index], 0, index)?;
                waiting -= 1;
            }
        }
    }
    Ok(())
}
