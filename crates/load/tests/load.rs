//! Against real servers on loopback and in socket files: right ones, one that stands still, ones that close, that answer
//! something else, or nothing, and nobody.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use wireway_core::frame::{ByteOrder, Delimiter, Framing, LengthPrefix};
use wireway_load::{Address, Answers, Figures, Message, Options, Shared, run};

/// What a server does with what came on a connection: whether it goes on.
trait Serve: FnMut(&mut Vec<u8>) -> bool + Send + 'static {}
impl<F: FnMut(&mut Vec<u8>) -> bool + Send + 'static> Serve for F {}

fn talk(mut socket: impl Read + Write, mut serve: impl Serve) {
    let mut buffer = vec![0; 65536];
    while let Ok(got @ 1..) = socket.read(&mut buffer) {
        let mut data = buffer[..got].to_vec();
        let goes_on = serve(&mut data);
        if socket.write_all(&data).is_err() || !goes_on {
            return;
        }
    }
}

/// A server that hands each connection to a thread.
fn server<S: Serve>(serve: impl Fn() -> S + Send + 'static) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let serve = serve();
            thread::spawn(move || talk(socket.unwrap(), serve));
        }
    });
    Address::Tcp(address)
}

fn echo() -> Address {
    server(|| |_: &mut Vec<u8>| true)
}

fn framing() -> Framing {
    Framing::LengthPrefix(LengthPrefix::new(4, ByteOrder::Big, 1 << 20).unwrap())
}

fn options(address: Address) -> Options {
    Options {
        addresses: vec![address],
        tls: None,
        sources: vec![],
        threads: 1,
        connections: 4,
        connect_rate: None,
        connect_timeout: Duration::from_secs(5),
        in_flight: 8,
        rate: None,
        message: Message::new(&framing(), &[b'x'; 100]).unwrap(),
        answers: Answers::Same,
        duration: Some(Duration::from_millis(150)),
        count: None,
        warm_up: Duration::from_millis(10),
        timeout: Duration::from_secs(5),
    }
}

/// Counts end these, not time.
fn counted(address: Address, count: u64) -> Options {
    Options { count: Some(count), duration: None, warm_up: Duration::ZERO, ..options(address) }
}

fn go(options: &Options) -> io::Result<Figures> {
    run(options, &Shared::default())
}

#[test]
fn a_closed_loop() {
    let figures = go(&options(echo())).unwrap();
    assert_eq!((figures.connected, figures.frame), (4, 104));
    assert!(figures.errors.is_empty(), "{:?}", figures.errors);
    assert!(figures.messages > 0);
    // All but those that were under way at one of the ends of the measured time.
    assert!(figures.latency.len().abs_diff(figures.messages) <= 32);
    assert_eq!(figures.timeline.iter().sum::<u64>(), figures.messages);
    assert_eq!(figures.unanswered, 0);
}

#[test]
fn an_open_loop_sends_what_it_was_told_to() {
    let lines = Framing::Delimiter(Delimiter::lines(100, false));
    let message = Message::new(&lines, b"hello").unwrap();
    let given = Options { rate: Some(1000.0), message, ..options(echo()) };
    let figures = go(&given).unwrap();
    // However busy the machine: a thousand a second, for 150 ms.
    assert!((149..=151).contains(&figures.intended), "{}", figures.intended);
    assert_eq!(figures.latency.len(), figures.intended);
    assert!(figures.errors.is_empty(), "{:?}", figures.errors);
}

#[test]
fn a_server_that_stood_still_is_seen_by_all_who_would_have_asked() {
    const STOOD: Duration = Duration::from_millis(200);
    let stands_still_once = || {
        server(|| {
            let mut left = 50 * 104i64;
            move |data: &mut Vec<u8>| {
                let before = left > 0;
                left -= data.len() as i64;
                if before && left <= 0 {
                    thread::sleep(STOOD);
                }
                true
            }
        })
    };
    let over = |figures: &Figures, milliseconds: u64| {
        figures.latency.count_between(milliseconds * 1_000_000, u64::MAX)
    };
    let one = |address| Options { connections: 1, in_flight: 1, ..counted(address, 500) };
    // Closed: it asks one after the other, and one only was slow.
    let closed = go(&one(stands_still_once())).unwrap();
    assert!(over(&closed, 190) >= 1);
    // Open, a thousand a second: two hundred should have been answered in that time, and half of them waited for more
    // than 100 ms. A slow machine makes it only more.
    let open = go(&Options { rate: Some(1000.0), ..one(stands_still_once()) }).unwrap();
    assert_eq!((open.intended, open.latency.len(), open.messages), (500, 500, 500));
    assert!(over(&open, 190) >= 5, "{}", over(&open, 190));
    assert!(over(&open, 100) >= 90, "{}", over(&open, 100));
    assert!(open.latency.value_at_quantile(0.95) >= 150_000_000);
}

#[test]
fn a_count_is_exact() {
    for threads in [1, 3] {
        let seen = Arc::new(AtomicU64::new(0));
        let counting = seen.clone();
        let address = server(move || {
            let seen = counting.clone();
            move |data: &mut Vec<u8>| {
                seen.fetch_add(data.len() as u64, Ordering::Relaxed);
                true
            }
        });
        let figures = go(&Options { threads, ..counted(address, 1001) }).unwrap();
        assert_eq!((figures.messages, figures.latency.len()), (1001, 1001));
        assert_eq!(seen.load(Ordering::Relaxed), 1001 * 104);
    }
    let given = Options { warm_up: Duration::from_millis(20), ..counted(echo(), 1000) };
    assert_eq!(go(&given).unwrap().messages, 1000);
    let open = go(&Options { rate: Some(10_000.0), ..counted(echo(), 100) }).unwrap();
    assert_eq!((open.intended, open.messages), (100, 100));
}

#[test]
fn another_thread_ends_it() {
    let shared = Arc::new(Shared::default());
    let other = shared.clone();
    let given = Options { duration: Some(Duration::from_secs(60)), threads: 2, ..options(echo()) };
    let running = thread::spawn(move || run(&given, &other).unwrap());
    while shared.messages.load(Ordering::Relaxed) < 100 {
        thread::yield_now();
    }
    shared.stop.store(true, Ordering::Relaxed);
    assert_eq!(running.join().unwrap().connected, 4);
}

#[test]
fn servers_that_are_wrong() {
    let said = |address| go(&options(address)).unwrap_err().to_string();
    let closes = said(server(|| |data: &mut Vec<u8>| std::mem::take(data).is_empty()));
    assert!(closes.contains("every connection was lost"), "{closes}");
    let changes = said(server(|| {
        |data: &mut Vec<u8>| {
            data[5] ^= 1;
            true
        }
    }));
    assert!(changes.contains("other bytes came back"), "{changes}");
    let shorter = said(server(|| {
        |data: &mut Vec<u8>| {
            *data = b"\0\0\0\x02ok".to_vec();
            true
        }
    }));
    assert!(shorter.contains("another size"), "{shorter}");
    let more = said(server(|| {
        |data: &mut Vec<u8>| {
            data.extend_from_within(..);
            true
        }
    }));
    assert!(more.contains("more came back than was sent"), "{more}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = said(Address::Tcp(nobody));
    assert!(refused.contains("refused"), "{refused}");
}

#[test]
fn the_next_address_is_tried() {
    let nobody = Address::Tcp(TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap());
    let given = Options { addresses: vec![nobody, echo()], ..counted(echo(), 10) };
    let figures = go(&given).unwrap();
    assert_eq!(figures.messages, 10);
    assert!(figures.errors.is_empty(), "{:?}", figures.errors);
}

#[test]
fn a_server_that_says_nothing_is_told_and_counted() {
    let silent = || {
        server(|| {
            |data: &mut Vec<u8>| {
                data.clear();
                true
            }
        })
    };
    let timeout = Duration::from_millis(200);
    let error = go(&Options { timeout, ..counted(silent(), 100) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(error.to_string().contains("no answer within 200ms"), "{error}");
    // It answers some, and then no more: what it owes counts with what it waited, and is no small latency.
    let falls_silent = server(|| {
        let mut left = 104 * 20i64;
        move |data: &mut Vec<u8>| {
            left -= data.len() as i64;
            if left < 0 {
                data.clear();
            }
            true
        }
    });
    let given = Options { timeout, rate: Some(2000.0), ..counted(falls_silent, 400) };
    let figures = go(&given).unwrap();
    assert!(figures.unanswered >= 300, "{}", figures.unanswered);
    assert_eq!(figures.latency.len(), figures.messages + figures.unanswered);
    assert!(figures.latency.value_at_quantile(0.99) >= 150_000_000);
    assert_eq!(figures.errors["no answer within 200ms"], 4);
    assert!(figures.ended.is_some_and(|why| why.contains("every connection was lost")));
}

#[test]
fn a_connection_that_was_closed_is_made_again() {
    // Two thousand bytes, and it closes: what was under way is lost, the next connection goes on.
    let address = server(|| {
        let mut left = 2000i64;
        move |data: &mut Vec<u8>| {
            left -= data.len() as i64;
            left > 0
        }
    });
    let figures = go(&Options { in_flight: 1, ..options(address) }).unwrap();
    assert!(figures.reconnected > 0 && figures.messages > 80, "{figures:?}");
    let (lost, _) = figures.errors.iter().next().unwrap();
    assert!(["closed by the server", "reset by the server"].contains(&lost.as_str()), "{lost}");
    assert_eq!(figures.ended, None);
}

#[test]
fn sources_and_a_rate_of_connecting() {
    let sources = vec!["127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap()];
    let given = Options { sources, connect_rate: Some(100.0), ..counted(echo(), 8) };
    let figures = go(&given).unwrap();
    assert_eq!(figures.connected, 4);
    assert!(figures.connecting >= 0.03, "{}", figures.connecting);
    let elsewhere = vec!["192.0.2.1".parse().unwrap()];
    let error = go(&Options { sources: elsewhere, ..options(echo()) }).unwrap_err();
    assert!(error.to_string().contains("no address of this machine"), "{error}");
}

#[test]
fn a_socket_file_and_a_full_listen_queue() {
    let path = std::env::temp_dir().join(format!("wireway-load-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            thread::spawn(move || talk(socket.unwrap(), |_: &mut Vec<u8>| true));
        }
    });
    let given =
        Options { connections: 300, in_flight: 1, ..counted(Address::Unix(path.clone()), 600) };
    let figures = go(&given).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!((figures.connected, figures.messages), (300, 600));
    assert!(figures.errors.is_empty(), "{:?}", figures.errors);
}

#[test]
fn large_messages_come_back_whole() {
    let message = Message::new(&framing(), &vec![7; 1 << 20]).unwrap();
    let given = Options { message, in_flight: 2, ..counted(echo(), 24) };
    let figures = go(&given).unwrap();
    assert_eq!((figures.messages, figures.frame), (24, (1 << 20) + 4));
    assert_eq!(figures.received, 24 * ((1 << 20) + 4));
}

#[test]
fn requests_of_http() {
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let answers = move |text: &'static str, last: bool| {
        server(move || {
            move |data: &mut Vec<u8>| {
                *data = text.repeat(data.len() / request.len()).into_bytes();
                !last
            }
        })
    };
    let given = |address| Options {
        message: Message::new(&Framing::Raw, request).unwrap(),
        answers: Answers::Http { head: false },
        in_flight: 1,
        ..counted(address, 40)
    };
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let figures = go(&given(answers(ok, false))).unwrap();
    assert_eq!((figures.messages, figures.statuses[&200], figures.reconnected), (40, 40, 0));
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let figures = go(&given(answers(missing, false))).unwrap();
    assert_eq!((figures.messages, figures.errors["HTTP status 404"]), (40, 40));
    // A connection for each: the server says so, or it just ends.
    for text in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\n\r\nok",
    ] {
        let figures = go(&given(answers(text, true))).unwrap();
        assert_eq!((figures.messages, figures.statuses[&200]), (40, 40));
        assert!(figures.reconnected >= 36, "{}", figures.reconnected);
        assert!(figures.errors.is_empty(), "{:?}", figures.errors);
    }
}

/// A listener that nobody accepts from: its queue fills, and connecting takes too long.
#[test]
fn connections_that_are_not_made_in_time() {
    let path = std::env::temp_dir().join(format!("wireway-full-{}.sock", std::process::id()));
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let connect_timeout = Duration::from_millis(50);
    let given = Options {
        connect_timeout,
        timeout: Duration::from_millis(50),
        ..options(Address::Unix(path.clone()))
    };
    let error = go(&given).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert!(error.to_string().contains("every connection was lost"), "{error}");
}

#[test]
fn ipv6() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let address: SocketAddr = listener.local_addr().unwrap();
    thread::spawn(move || talk(listener.accept().unwrap().0, |_: &mut Vec<u8>| true));
    let given = Options { connections: 1, ..counted(Address::Tcp(address), 10) };
    assert_eq!(go(&given).unwrap().messages, 10);
}
