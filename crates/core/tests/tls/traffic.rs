//! Bytes through an open session, cut anywhere, large and small, and how it ends.

use wireway_core::tls::{ClientTls, ServerTls, Session};

use super::support::{Authority, Pair, client_options, server_options};

fn pair() -> Pair {
    let ca = Authority::new("ca");
    Pair::new(&server_options(ca.issue(&["localhost"])), &client_options(&ca), "localhost")
}

#[test]
fn byte_by_byte_from_the_first() {
    let mut pair = pair();
    pair.client.session.send(b"from before the handshake");
    pair.run_in(1);
    pair.server.session.send(&[7; 3000]);
    pair.run_in(1);
    assert_eq!(pair.server.received, b"from before the handshake");
    assert_eq!(pair.client.received, [7; 3000]);
    assert_eq!((&pair.client.said, &pair.server.said), (&Ok(()), &Ok(())));
}

#[test]
fn a_mebibyte_each_way_in_pieces_of_every_size() {
    let data: Vec<u8> = (0..1 << 20).map(|at: u32| ((at * 31) >> 3) as u8).collect();
    for piece in [1000, 16_384, 16_406, 65_536, usize::MAX] {
        let mut pair = pair().connected();
        pair.client.session.send(&data);
        pair.server.session.send(&data);
        pair.run_in(piece);
        assert!(pair.client.received == data && pair.server.received == data, "pieces of {piece}");
        let records = data.len().div_ceil(16_384);
        assert!(pair.client.sent < data.len() + records * 30 + 1000);
    }
}

#[test]
fn many_small_ones_in_order_through_either_send() {
    let mut pair = pair().connected();
    let mut expected = Vec::new();
    let mut wire = Vec::new();
    for number in 0..1000_u32 {
        let message = vec![number as u8; 1 + number as usize % 200];
        expected.extend_from_slice(&message);
        if number % 3 == 0 {
            pair.client.session.send_into(&message, &mut wire);
        } else {
            pair.client.session.send(&message);
        }
        pair.client.session.send(b"");
    }
    pair.client.session.outgoing(&mut wire);
    pair.server.give(&wire);
    assert_eq!(pair.server.received, expected);
}

#[test]
fn a_session_at_rest_holds_no_buffer() {
    let mut pair = pair();
    pair.client.session.send(&[1; 100_000]);
    let mut pair = pair.connected();
    pair.server.session.send(&[2; 100_000]);
    pair.run_in(777);
    assert_eq!(pair.client.received.len(), 100_000);
    assert_eq!((pair.client.session.buffered(), pair.server.session.buffered()), (0, 0));
    assert!(!pair.client.session.wants_write());
}

#[test]
fn goodbye_each_way_is_half_a_close() {
    let mut pair = pair().connected();
    pair.client.session.send(b"last words");
    pair.client.session.close();
    pair.client.session.send(b"after the last");
    pair.client.session.close();
    pair.run();
    assert_eq!(pair.server.received, b"last words");
    assert!(pair.server.session.peer_closed() && !pair.client.session.peer_closed());
    assert_eq!(pair.server.session.end(), Ok(()));

    pair.server.session.send(b"an answer all the same");
    pair.server.session.close();
    pair.run();
    assert_eq!(pair.client.received, b"an answer all the same");
    assert!(pair.client.session.peer_closed());
    assert_eq!((pair.client.session.end(), pair.client.session.buffered()), (Ok(()), 0));
    pair.client.give(b"what comes after a goodbye is not looked at");
    assert_eq!(pair.client.said, Ok(()));
}

#[test]
fn goodbye_during_the_handshake_waits_for_its_end() {
    let mut pair = pair();
    pair.client.session.send(b"hello and goodbye");
    pair.client.session.close();
    let mut pair = pair.connected();
    pair.run();
    assert_eq!(pair.server.received, b"hello and goodbye");
    assert!(pair.server.session.peer_closed());
}

#[test]
fn a_stream_that_ends_without_goodbye_is_truncated() {
    let mut pair = pair();
    assert!(pair.server.session.end().unwrap_err().text.contains("before it sent a byte"));

    let mut pair = self::pair();
    let wire = pair.client.take();
    pair.server.give(&wire[..wire.len() - 1]);
    let error = pair.server.session.end().unwrap_err();
    assert_eq!(error.code, "tls-truncated");
    assert!(error.text.contains("in the middle of the TLS handshake"), "{error}");

    let mut pair = self::pair().connected();
    let error = pair.client.session.end().unwrap_err();
    assert!(error.text.contains("without a close_notify"), "{error}");
    assert_eq!(pair.client.session.end(), Err(error.clone()));
    assert_eq!(pair.client.session.receive(b"x", &mut |_| ()), Err(error));

    let mut pair = self::pair().connected();
    pair.client.session.send(b"cut");
    let wire = pair.client.take();
    pair.server.give(&wire[..wire.len() - 1]);
    let error = pair.server.session.end().unwrap_err();
    assert!(error.text.contains("in the middle of a TLS record"), "{error}");
    assert_eq!((pair.server.received.len(), pair.server.session.buffered()), (0, 0));
}

#[test]
fn a_session_in_the_callback_of_another() {
    // The buffer is the thread's: two sessions must not share it.
    let ca = Authority::new("ca");
    let server = ServerTls::new(&server_options(ca.issue(&["localhost"]))).unwrap();
    let client = ClientTls::new(&client_options(&ca)).unwrap();
    let mut outer = Pair::of(&server, &client, "localhost").connected();
    let mut inner = Pair::of(&server, &client, "localhost").connected();
    outer.client.session.send(&[1; 40_000]);
    let wire = outer.client.take();
    let mut received = Vec::new();
    let session: &mut Session = &mut outer.server.session;
    session
        .receive(&wire, &mut |plain| {
            received.extend_from_slice(plain);
            inner.client.session.send(&[2; 20_000]);
            inner.run();
        })
        .unwrap();
    assert_eq!(received, [1; 40_000]);
    assert!(
        inner.server.received.iter().all(|&byte| byte == 2)
            && inner.server.received.len() >= 60_000
    );
}
