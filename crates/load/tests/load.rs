//! Against real servers on loopback: a right echo, one that closes, one that changes bytes, and nobody.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use wireway_load::{Framing, Options, Shared, run};

/// A server that hands each connection to a thread; `serve` gets what came and says what goes back.
fn server(serve: impl Fn(&mut Vec<u8>) -> bool + Send + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            thread::spawn(move || {
                let mut buffer = vec![0; 65536];
                while let Ok(got @ 1..) = socket.read(&mut buffer) {
                    let mut data = buffer[..got].to_vec();
                    if !serve(&mut data) || socket.write_all(&data).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn options(address: SocketAddr) -> Options {
    Options {
        address,
        sources: vec![],
        connections: 4,
        connect_rate: None,
        connect_timeout: Duration::from_secs(5),
        in_flight: 8,
        rate: None,
        size: 100,
        framing: Framing::Length { width: 4, little: false },
        duration: Duration::from_millis(200),
        count: None,
        warm_up: Duration::from_millis(20),
    }
}

#[test]
fn a_closed_loop() {
    let address = server(|_| true);
    let figures = run(&options(address), &Shared::default()).unwrap();
    assert_eq!((figures.connected, figures.frame), (4, 104));
    assert!(figures.errors.is_empty(), "{:?}", figures.errors);
    assert!(figures.messages > 0);
    assert_eq!(figures.latency.len(), figures.messages);
    assert_eq!(figures.each_second.iter().sum::<u64>(), figures.messages);
}

#[test]
fn an_open_loop_sends_what_it_was_told_to() {
    let address = server(|_| true);
    let given = Options { rate: Some(1000.0), framing: Framing::Lines, ..options(address) };
    let figures = run(&given, &Shared::default()).unwrap();
    assert!((100..=400).contains(&figures.intended), "{}", figures.intended);
    assert_eq!(figures.latency.len(), figures.intended);
    assert!(figures.errors.is_empty(), "{:?}", figures.errors);
}

#[test]
fn a_count_ends_it() {
    let address = server(|_| true);
    let given =
        Options { count: Some(1000), duration: Duration::from_secs(60), ..options(address) };
    let figures = run(&given, &Shared::default()).unwrap();
    assert!((1000..3000).contains(&figures.messages), "{}", figures.messages);
}

#[test]
fn another_thread_ends_it() {
    let address = server(|_| true);
    let shared = std::sync::Arc::new(Shared::default());
    let other = shared.clone();
    let given = Options { duration: Duration::from_secs(60), ..options(address) };
    let running = thread::spawn(move || run(&given, &other).unwrap());
    while shared.messages.load(Ordering::Relaxed) < 100 {
        thread::yield_now();
    }
    shared.stop.store(true, Ordering::Relaxed);
    assert_eq!(running.join().unwrap().connected, 4);
}

#[test]
fn servers_that_are_wrong() {
    let said = |address| run(&options(address), &Shared::default()).unwrap_err().to_string();
    let closes = server(|_| false);
    assert!(said(closes).contains("every connection was lost"), "{}", said(closes));
    let changes = server(|data| {
        data[5] ^= 1;
        true
    });
    assert!(said(changes).contains("other bytes came back"), "{}", said(changes));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(said(nobody).contains("refused"), "{}", said(nobody));
}

#[test]
fn sources_and_a_rate_of_connecting() {
    let address = server(|_| true);
    let sources = vec!["127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap()];
    let given = Options { sources, connect_rate: Some(100.0), ..options(address) };
    let figures = run(&given, &Shared::default()).unwrap();
    assert_eq!(figures.connected, 4);
    assert!(figures.connecting >= 0.03, "{}", figures.connecting);
}
