//! Layouts that others made, lengths that can not be, and every cut of both.

use super::*;
use crate::frame::trial::{cut_everywhere, decode, refused_everywhere};
use crate::frame::{Framing, MAX_HEADER};

fn laid_out(width: usize, order: ByteOrder, limit: usize, layout: Layout) -> Framing {
    Framing::LengthPrefix(LengthPrefix::laid_out(width, order, limit, layout).unwrap())
}

#[test]
fn every_cut_gives_the_same_messages() {
    let messages: [&[u8]; 5] = [b"", b"a", b"", b"hello world", b"\0\0\0\x04"];
    for width in [1, 2, 3, 4, 8] {
        for order in [ByteOrder::Big, ByteOrder::Little] {
            let prefix = LengthPrefix::new(width, order, 100).unwrap();
            cut_everywhere(&Framing::LengthPrefix(prefix), &messages);
        }
    }
}

#[test]
fn only_some_widths_exist() {
    for width in [0, 5, 6, 7, 9, usize::MAX] {
        assert_eq!(LengthPrefix::new(width, ByteOrder::Big, 1), None);
    }
    let far = Layout { offset: usize::MAX, ..Layout::default() };
    assert_eq!(LengthPrefix::laid_out(4, ByteOrder::Big, 1, far), None);
}

#[test]
fn a_frame_over_the_limit_is_refused_from_its_header_alone() {
    let framing = Framing::LengthPrefix(LengthPrefix::new(4, ByteOrder::Big, 1000).unwrap());
    let error = FrameError::TooLarge { length: 1001, limit: 1000 };
    refused_everywhere(&framing, &[0, 0, 3, 0xe9], &error);
    let wide = Framing::LengthPrefix(LengthPrefix::new(8, ByteOrder::Little, 1000).unwrap());
    refused_everywhere(&wide, &[0xff; 8], &FrameError::TooLarge { length: u64::MAX, limit: 1000 });
    let mut header = [0; MAX_HEADER];
    assert_eq!(framing.wrap(&[0; 1001], &mut header), Err(error));
}

#[test]
fn what_the_width_can_not_say_is_refused() {
    let framing = Framing::LengthPrefix(LengthPrefix::new(1, ByteOrder::Big, 1000).unwrap());
    let error = FrameError::TooLarge { length: 256, limit: 255 };
    assert_eq!(framing.encode(&[0; 256], &mut Vec::new()), Err(error));
    cut_everywhere(&framing, &[&[7; 255]]);
}

/// The examples of Netty's documentation of `LengthFieldBasedFrameDecoder`, in its order.
#[test]
fn netty_s_examples() {
    let hello = b"HELLO, WORLD";
    let table: [(usize, Layout, &[u8], &[u8]); 7] = [
        (2, Layout::default(), b"\0\x0cHELLO, WORLD", b"\0\x0cHELLO, WORLD"),
        (2, Layout { strip: 2, ..Layout::default() }, b"\0\x0cHELLO, WORLD", hello),
        (
            2,
            Layout { adjustment: -2, ..Layout::default() },
            b"\0\x0eHELLO, WORLD",
            b"\0\x0eHELLO, WORLD",
        ),
        (
            3,
            Layout { offset: 2, ..Layout::default() },
            b"\xca\xfe\0\0\x0cHELLO, WORLD",
            b"\xca\xfe\0\0\x0cHELLO, WORLD",
        ),
        (
            3,
            Layout { adjustment: 2, ..Layout::default() },
            b"\0\0\x0c\xca\xfeHELLO, WORLD",
            b"\0\0\x0c\xca\xfeHELLO, WORLD",
        ),
        (
            2,
            Layout { offset: 1, adjustment: 1, strip: 3, ..Layout::default() },
            b"\xca\0\x0c\xfeHELLO, WORLD",
            b"\xfeHELLO, WORLD",
        ),
        (
            2,
            Layout { offset: 1, adjustment: -3, strip: 3, ..Layout::default() },
            b"\xca\0\x10\xfeHELLO, WORLD",
            b"\xfeHELLO, WORLD",
        ),
    ];
    for (width, layout, frame, message) in table {
        let framing = laid_out(width, ByteOrder::Big, 100, layout);
        for cut in 0..=frame.len() {
            let (messages, end, pending) = decode(&framing, [&frame[..cut], &frame[cut..]]);
            assert_eq!((messages, end, pending), (vec![message.to_vec()], Ok(()), 0));
        }
        let mut sent = Vec::new();
        let result = framing.encode(message, &mut sent);
        if layout.strip == 0 || layout.offset == 0 {
            assert_eq!((result, sent.as_slice()), (Ok(()), frame));
        } else {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("can be read only"), "{text}");
        }
    }
}

#[test]
fn including_the_header_is_an_adjustment_by_it() {
    let one = Layout { offset: 1, includes_header: true, ..Layout::default() };
    let other = Layout { offset: 1, adjustment: -3, ..Layout::default() };
    assert_eq!(
        LengthPrefix::laid_out(2, ByteOrder::Big, 9, one),
        LengthPrefix::laid_out(2, ByteOrder::Big, 9, other)
    );
    let framing = laid_out(2, ByteOrder::Little, 9, one);
    cut_everywhere(&framing, &[b"\x01\x03\0", b"\x02\x05\0ab"]);
}

#[test]
fn headers_longer_than_the_decoder_keeps_inside() {
    for strip in [0, 3, 30, 44, 50] {
        let layout = Layout { offset: 40, adjustment: 6, strip, ..Layout::default() };
        let framing = laid_out(4, ByteOrder::Big, 100, layout);
        let mut frame: Vec<u8> = (1..=40).collect();
        frame.extend_from_slice(&[0, 0, 0, 3]);
        frame.extend_from_slice(b"sixsixabc");
        let stream = [frame.as_slice(), &frame].concat();
        let message = frame[strip..].to_vec();
        for cut in 0..=stream.len() {
            let (messages, end, pending) = decode(&framing, [&stream[..cut], &stream[cut..]]);
            assert_eq!((end, pending), (Ok(()), 0));
            assert_eq!(messages, [message.clone(), message.clone()]);
        }
        let (messages, end, _) = decode(&framing, stream.chunks(1));
        assert_eq!((messages.len(), end), (2, Ok(())));
    }
}

#[test]
fn lengths_that_can_not_be() {
    let whole = Layout { offset: 2, includes_header: true, ..Layout::default() };
    let text =
        "the length field says 5: the frame would have 5 bytes, its header alone has 6 bytes";
    let framing = laid_out(4, ByteOrder::Big, 100, whole);
    refused_everywhere(&framing, b"ab\0\0\0\x05", &FrameError::bad(text));

    let negative = Layout { adjustment: -5, ..Layout::default() };
    let text =
        "the length field says 0: the frame would have -4 bytes, its header alone has 1 byte";
    let framing = laid_out(1, ByteOrder::Big, 100, negative);
    refused_everywhere(&framing, b"\0", &FrameError::bad(text));

    let stripped = Layout { strip: 4, ..Layout::default() };
    let text =
        "the length field says 2: the frame has 3 bytes, of which 4 bytes were to be stripped";
    let framing = laid_out(1, ByteOrder::Big, 100, stripped);
    refused_everywhere(&framing, b"\x02", &FrameError::bad(text));
}

#[test]
fn a_message_that_brings_its_own_length_must_be_right() {
    let framing = laid_out(2, ByteOrder::Big, 100, Layout::default());
    let mut out = Vec::new();
    let error = framing.encode(b"\0\x09abc", &mut out).unwrap_err();
    let text = "the length field of the message says 9, for its 5 bytes it must say 3";
    assert_eq!(error, FrameError::bad(text));
    let error = framing.encode(b"\0", &mut out).unwrap_err();
    assert_eq!(error, FrameError::bad("the message has 1 byte, its header alone has 2 bytes"));
    assert!(out.is_empty());
    cut_everywhere(&framing, &[b"\0\x03abc", b"\0\0"]);
}

#[test]
fn a_length_field_of_which_a_part_is_stripped() {
    let layout = Layout { strip: 1, ..Layout::default() };
    let framing = laid_out(2, ByteOrder::Big, 1000, layout);
    cut_everywhere(&framing, &[b"\x03abc", b"\0"]);
    assert!(framing.encode(b"\x04abc", &mut Vec::new()).is_err());
}
