//! What TLS costs, by hand: `cargo test --release -p wireway-core --test tls -- --ignored --nocapture`.
//! The figures of `docs/decisions/0012-rustls.md`.

use std::time::{Duration, Instant};

use wireway_core::tls::{ClientTls, ServerTls};

use super::support::{Authority, Pair, client_options, server_options};

fn each(what: &str, count: u32, took: Duration) {
    println!(
        "{what}: {} ns, {:.0} a second",
        took.as_nanos() / u128::from(count),
        f64::from(count) / took.as_secs_f64()
    );
}

#[test]
#[ignore = "a measurement"]
fn records_and_handshakes() {
    let ca = Authority::new("ca");
    let server = ServerTls::new(&server_options(ca.issue(&["localhost"]))).unwrap();
    let client = ClientTls::new(&client_options(&ca)).unwrap();
    let mut pair = Pair::of(&server, &client, "localhost").connected();

    for (size, batch, rounds) in [(100, 16, 50_000_u32), (16_384, 16, 2000)] {
        let message = vec![1; size];
        let (mut wire, mut seal, mut open, mut got) =
            (Vec::new(), Duration::ZERO, Duration::ZERO, 0);
        for _ in 0..rounds {
            wire.clear();
            let at = Instant::now();
            for _ in 0..batch {
                pair.client.session.send_into(&message, &mut wire);
            }
            seal += at.elapsed();
            let at = Instant::now();
            pair.server.session.receive(&wire, &mut |plain| got += plain.len()).unwrap();
            open += at.elapsed();
        }
        assert_eq!(got, size * batch * rounds as usize);
        each(&format!("send {size} B"), rounds * batch as u32, seal);
        each(&format!("receive {size} B"), rounds * batch as u32, open);
    }

    // The server's half alone, whole handshakes: a client of its own for each, so nothing is resumed.
    let mut spent = Duration::ZERO;
    let count = 1000;
    for _ in 0..count {
        let client = ClientTls::new(&client_options(&ca)).unwrap();
        let mut pair = Pair::of(&server, &client, "localhost");
        let hello = pair.client.take();
        let at = Instant::now();
        pair.server.give(&hello);
        let answer = pair.server.take();
        spent += at.elapsed();
        pair.client.give(&answer);
        let finished = pair.client.take();
        let at = Instant::now();
        pair.server.give(&finished);
        pair.server.take();
        spent += at.elapsed();
        assert!(!pair.server.session.is_handshaking());
    }
    each("a server's half of a full handshake, TLS 1.3, P-256", count, spent);

    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let mut servers = Vec::new();
    let before = resident();
    for _ in 0..2000 {
        servers.push(Pair::of(&server, &client, "localhost").connected().server.session);
    }
    println!("a server's session at rest: {} bytes", (resident() - before) / servers.len());
}
