//! Length fields of every width, order and layout, over every cut: against a decoder of a few lines, and back again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::frame::{ByteOrder, FrameError, Framing, Layout, LengthPrefix};
use wireway_fuzz::framing::{consistent, plain, round_trip};

fuzz_target!(|input: (&[u8], [u8; 3], u8, u16, [u8; 3])| {
    let (stream, cuts, kind, limit, [offset, adjustment, strip]) = input;
    let width = [1, 2, 3, 4, 8][usize::from(kind >> 3) % 5];
    let order = if kind & 1 == 0 { ByteOrder::Big } else { ByteOrder::Little };
    let (usual, includes_header) = (kind & 2 == 0, kind & 4 != 0);
    let limit = usize::from(limit);
    let (offset, strip) = (usize::from(offset) % 40, usize::from(strip) % 60);
    let adjustment = i64::from(adjustment as i8);
    let layout = if usual {
        Layout { strip: width, ..Layout::default() }
    } else {
        Layout { offset, includes_header, adjustment, strip }
    };
    let Some(prefix) = LengthPrefix::laid_out(width, order, limit, layout) else {
        unreachable!("an allowed layout")
    };
    let framing = Framing::LengthPrefix(prefix);
    let Layout { offset, includes_header, adjustment, strip } = layout;

    let meaning = consistent(&framing, stream, &cuts);
    // The texts of other errors are the framing's own: only that there is one is compared.
    let own = meaning.1.clone();
    let model = plain(stream, |data| {
        let end = offset + width;
        let Some(field) = data.get(offset..end) else { return Ok(None) };
        let mut digits = field.to_vec();
        if order == ByteOrder::Little {
            digits.reverse();
        }
        let length = digits.iter().fold(0_u64, |value, digit| value << 8 | u64::from(*digit));
        let counted = if includes_header { 0 } else { end as i128 };
        let total = i128::from(length) + i128::from(adjustment) + counted;
        let body = total - strip as i128;
        if total < end as i128 || body < 0 {
            assert!(matches!(own, Err(FrameError::Bad(_))));
            return Err(own.clone().unwrap_err());
        }
        if body > limit as i128 {
            let length = u64::try_from(body).unwrap_or(u64::MAX);
            return Err(FrameError::TooLarge { length, limit: limit as u64 });
        }
        Ok(Some((total as usize, strip)))
    });
    assert_eq!(meaning, model);

    // What was read can be sent, unless it was stripped of what nobody knows.
    let known = strip == 0 || (offset == 0 && strip <= width);
    for message in &meaning.0 {
        assert_eq!(round_trip(&framing, message), known);
    }
});
