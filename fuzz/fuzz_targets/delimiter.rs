//! Delimiters and lines: against a search of a few lines, over every cut, and back again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::frame::{Delimiter, FrameError, Framing};
use wireway_fuzz::framing::{consistent, decode, plain};

fuzz_target!(|input: (&[u8], [u8; 3], [u8; 16], u8, u8, bool)| {
    let (stream, cuts, bytes, size, limit, keep) = input;
    let limit = usize::from(limit);
    // Few different bytes, so that delimiters appear by chance, and overlap themselves.
    let bytes: Vec<u8> = bytes.iter().map(|byte| b"ab\r\n"[usize::from(byte % 4)]).collect();
    let size = usize::from(size % 17);
    let lines = size == 0;
    let bytes = if lines { b"\n" } else { &bytes[..size] };
    let framing = if lines {
        Framing::Delimiter(Delimiter::lines(limit, keep))
    } else {
        match Delimiter::new(bytes, limit, keep) {
            Some(framing) => Framing::Delimiter(framing),
            None => unreachable!("an allowed delimiter"),
        }
    };

    let meaning = consistent(&framing, stream, &cuts);
    let reach = limit + bytes.len() + usize::from(lines);
    // `plain` knows stripping at the front only: it keeps the delimiters, and they are taken off here.
    let bare = |frame: &[u8]| {
        let rest = &frame[..frame.len() - bytes.len()];
        let returned = if lines { rest.strip_suffix(b"\r") } else { None };
        returned.unwrap_or(rest).to_vec()
    };
    let mut model = plain(stream, |data| {
        let window = &data[..data.len().min(reach)];
        let end = window.windows(bytes.len()).position(|place| place == bytes);
        match end.map(|position| position + bytes.len()) {
            Some(end) if bare(&data[..end]).len() <= limit => Ok(Some((end, 0))),
            None if window.len() < reach => Ok(None),
            _ => Err(FrameError::Endless { limit: limit as u64 }),
        }
    });
    if !keep {
        model.0 = model.0.iter().map(|frame| bare(frame)).collect();
    }
    assert_eq!(meaning, model);

    // Sent one after the other, messages arrive as they were.
    let mut sent = Vec::new();
    let taken: Vec<Vec<u8>> = stream
        .split(|byte| *byte == 0)
        .filter(|message| framing.encode(message, &mut sent).is_ok())
        .map(<[u8]>::to_vec)
        .collect();
    assert_eq!(decode(&framing, [sent.as_slice()]), (taken, Ok(()), vec![]));
});
