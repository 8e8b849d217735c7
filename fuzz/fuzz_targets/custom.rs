//! Functions that cut, honest ones and ones that answer anything: over every cut, and back again.
#![no_main]

use std::any::Any;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use wireway_core::frame::{Cut, Cutting, FrameError, Framing};
use wireway_fuzz::cut;
use wireway_fuzz::framing::{consistent, decode};

/// A byte of what is stripped besides, one of the length of what follows; 0xff is an error.
#[derive(Debug)]
struct Honest(usize);

impl Cut for Honest {
    fn cut(&self, data: &[u8]) -> Result<Cutting, Box<str>> {
        match *data {
            [0xff, ..] => Err("no frame".into()),
            [_] => Ok(Cutting::Need(1)),
            [strip, length, ..] => {
                let (strip, length) = (2 + usize::from(strip), usize::from(length));
                Ok(Cutting::Frame { length: strip + length, strip })
            }
            [] => panic!("asked about nothing"),
        }
    }
    fn limit(&self) -> usize {
        self.0
    }
    fn wrap(&self, content: &[u8]) -> Result<Vec<u8>, FrameError> {
        let Ok(length) = u8::try_from(content.len()) else {
            return Err(FrameError::Custom("too long".into()));
        };
        if content.len() + 2 > self.0 {
            return Err(FrameError::Custom("too long".into()));
        }
        Ok([&[0, length], content].concat())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Answers what the bytes say, however senseless.
#[derive(Debug)]
struct Wild(usize);

impl Cut for Wild {
    fn cut(&self, data: &[u8]) -> Result<Cutting, Box<str>> {
        let sum = data.iter().fold(0_usize, |sum, byte| (sum * 3 + usize::from(*byte)) % 999_983);
        match sum % 4 {
            0 if sum % 7 == 0 => Err("no frame".into()),
            0 | 1 => Ok(Cutting::Need(sum % 50)),
            _ => Ok(Cutting::Frame { length: sum % 90, strip: sum % 20 }),
        }
    }
    fn limit(&self) -> usize {
        self.0
    }
    fn wrap(&self, content: &[u8]) -> Result<Vec<u8>, FrameError> {
        Ok(content.to_vec())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fuzz_target!(|input: (&[u8], [u8; 3], u16)| {
    let (stream, cuts, limit) = input;
    // Under a limit below the header, what is refused depends on how much of it was shown.
    let limit = 2 + usize::from(limit);
    let _ = consistent(&Framing::Custom(Arc::new(Honest(limit))), stream, &cuts);
    // What it means depends on how it is cut; only that it ends, and stays within its bounds, does not.
    let (messages, _, kept) = decode(&Framing::Custom(Arc::new(Wild(limit))), cut(stream, &cuts));
    assert!(messages.iter().map(Vec::len).sum::<usize>() + kept.len() <= stream.len());
    assert!(messages.iter().all(|message| message.len() <= limit));
});
