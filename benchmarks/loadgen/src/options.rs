//! The command line: one workload and its sizes.

use std::net::SocketAddrV4;
use std::time::Duration;

use lexopt::prelude::*;

/// Printed for `--help`.
pub const HELP: &str = "\
wireway-loadgen WORKLOAD --port PORT [options]

Workloads
  framed   echo with a 4-byte big-endian length before each message
  raw      echo of bytes
  churn    connect, one message, its reply, close; over and over
  idle     open the connections, one message each, print a line, hold until standard input ends
  broadcast   one connection more sends messages; the server sends each to all the others
  heartbeats  open the connections, one message each, and answer each ping with pong
  tls      framed echo under TLS; certificates are not checked
  http     requests of HTTP/1.1 on connections that stay, --depth of them in flight
  handshakes  connect, full TLS handshake, one message, its reply, close; over and over

Options                           default
  --host ADDRESS                  127.0.0.1
  --port PORT                     (required)
  --connections N                 64       open at once
  --depth N                       1        messages in flight on each connection (framed, raw, tls);
                                           broadcasts under way at once
  --size BYTES                    100      payload of a message
  --seconds S                     2        length of the measured window
  --warmup S                      0.3      before it
  --every S                       10       heartbeats: the server's interval; opening takes as long,
                                           and must end within the warm-up
  --path PATH                     /        http: what is asked for
  --network N                     (none)   come from 250 addresses, 127.0.N.1 to 127.0.N.250
  --core N                        (none)   stay on this core
  --server-pid PID                (none)   the server, whose processor time is read as well
  --unframed                      churn and idle send plain bytes instead of frames
  --reset                         churn closes with RST instead of FIN

Prints one JSON object. Exit status: 0 measured, 1 could not, 2 wrong arguments.
";

/// What to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    /// Echo in a sliding window.
    Echo,
    /// Short connections.
    Churn,
    /// Connections that wait.
    Idle,
    /// One speaks, all hear.
    Broadcast,
    /// Connections that answer pings.
    Heartbeats,
    /// Echo under TLS.
    Tls,
    /// Short connections under TLS.
    Handshakes,
    /// Requests of HTTP/1.1.
    Http,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to run.
    pub workload: Workload,
    /// The name it was asked for by.
    pub name: &'static str,
    /// Whether messages have a length before them.
    pub framed: bool,
    /// The server.
    pub address: SocketAddrV4,
    /// Connections open at once.
    pub connections: usize,
    /// Messages in flight on each.
    pub depth: usize,
    /// Payload bytes of a message.
    pub size: usize,
    /// The measured window.
    pub window: Duration,
    /// What comes before it.
    pub warmup: Duration,
    /// Between two heartbeats.
    pub every: Duration,
    /// The network of loopback addresses to come from.
    pub network: Option<u8>,
    /// The core to stay on.
    pub core: Option<usize>,
    /// The server's process.
    pub server: Option<u32>,
    /// What is asked for.
    pub path: String,
    /// Close with RST.
    pub reset: bool,
}

/// The options, or `None` if help was asked for.
pub fn parse(
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Option<Options>, lexopt::Error> {
    let mut parser = lexopt::Parser::from_iter(arguments);
    let (mut host, mut port, mut unframed) = (std::net::Ipv4Addr::LOCALHOST, None, false);
    let mut workload = None;
    let mut options = Options {
        workload: Workload::Echo,
        name: "framed",
        framed: true,
        address: SocketAddrV4::new(host, 0),
        connections: 64,
        depth: 1,
        size: 100,
        window: Duration::from_secs(2),
        warmup: Duration::from_millis(300),
        every: Duration::from_secs(10),
        network: None,
        core: None,
        server: None,
        path: "/".to_owned(),
        reset: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Value(name) if workload.is_none() => {
                let (kind, name, framed) = match name.string()?.as_str() {
                    "framed" => (Workload::Echo, "framed", true),
                    "raw" => (Workload::Echo, "raw", false),
                    "churn" => (Workload::Churn, "churn", true),
                    "idle" => (Workload::Idle, "idle", true),
                    "broadcast" => (Workload::Broadcast, "broadcast", true),
                    "heartbeats" => (Workload::Heartbeats, "heartbeats", true),
                    "tls" => (Workload::Tls, "tls", true),
                    "http" => (Workload::Http, "http", false),
                    "handshakes" => (Workload::Handshakes, "handshakes", true),
                    other => return Err(format!("unknown workload {other:?}; see --help").into()),
                };
                workload = Some(kind);
                (options.name, options.framed) = (name, framed);
            }
            Long("host") => host = parser.value()?.parse()?,
            Long("port") => port = Some(parser.value()?.parse()?),
            Long("connections") => options.connections = parser.value()?.parse()?,
            Long("depth") => options.depth = parser.value()?.parse()?,
            Long("size") => options.size = parser.value()?.parse()?,
            Long("seconds") => options.window = parser.value()?.parse_with(seconds)?,
            Long("warmup") => options.warmup = parser.value()?.parse_with(seconds)?,
            Long("every") => options.every = parser.value()?.parse_with(seconds)?,
            Long("network") => options.network = Some(parser.value()?.parse()?),
            Long("core") => options.core = Some(parser.value()?.parse()?),
            Long("server-pid") => options.server = Some(parser.value()?.parse()?),
            Long("path") => options.path = parser.value()?.string()?,
            Long("unframed") => unframed = true,
            Long("reset") => options.reset = true,
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    options.workload = workload.ok_or("name a workload; see --help")?;
    options.address = SocketAddrV4::new(host, port.ok_or("--port is missing")?);
    options.framed &= !unframed;
    if options.every.is_zero() {
        return Err("--every must be above 0".into());
    }
    for (name, value, most) in [
        ("connections", options.connections, 100_000),
        ("depth", options.depth, 1024),
        ("size", options.size, 16 << 20),
    ] {
        if value == 0 || value > most {
            return Err(format!("--{name} must be 1 to {most}, got {value}").into());
        }
    }
    Ok(Some(options))
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=600.0).contains(&value) => Ok(Duration::from_secs_f64(value)),
        _ => Err(format!("seconds must be a number from 0 to 600, got {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Option<Options>, lexopt::Error> {
        parse(std::iter::once("loadgen").chain(line.split_whitespace()).map(Into::into))
    }

    #[test]
    fn a_full_line() {
        let options =
            of("raw --port 9 --connections 3 --depth 16 --size 5 --seconds 0.5").unwrap().unwrap();
        assert_eq!(
            (options.workload, options.framed, options.connections),
            (Workload::Echo, false, 3)
        );
        assert_eq!(
            (options.depth, options.size, options.window),
            (16, 5, Duration::from_millis(500))
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (line, said) in [
            ("--port 9", "workload"),
            ("raw", "--port"),
            ("raw --port 9 --depth 0", "--depth"),
            ("raw --port 9 --seconds nan", "seconds"),
            ("walk --port 9", "walk"),
            ("heartbeats --port 9 --every 0", "--every"),
        ] {
            assert!(of(line).unwrap_err().to_string().contains(said), "{line}");
        }
    }
}
