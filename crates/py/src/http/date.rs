//! The `Date` of an answer, written once a second (RFC 9110, 5.6.7).

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    static WRITTEN: RefCell<(u64, [u8; 29])> = const { RefCell::new((u64::MAX, [b' '; 29])) };
}

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Appends the date of now, as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn append(into: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    WRITTEN.with_borrow_mut(|(second, text)| {
        if *second != now {
            *second = now;
            text.copy_from_slice(write(now).as_bytes());
        }
        into.extend_from_slice(text);
    });
}

fn write(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month],
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Year, month from 0, day from 1, of so many days after 1 January 1970. Years begin in March here, so that the leap day
/// is the last of one.
fn civil(days: u64) -> (u64, usize, u64) {
    let shifted = days + 719_468; // from 1 March of the year 0
    let era = shifted / 146_097; // 400 years
    let of_era = shifted % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12;
    (year + era * 400 + u64::from(month < 2), month as usize, day)
}
