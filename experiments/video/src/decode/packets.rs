//! The packets of a stream, as ffmpeg's `framecrc` lists them while it decodes.

use std::io::{BufRead, BufReader, Read};

/// The largest number of packets that are kept: 11 hours at 25 frames a second.
const MAX_PACKETS: usize = 1_000_000;
/// The longest line that is looked at, in bytes.
const MAX_LINE: u64 = 4 << 10;
/// ffmpeg's flag of a packet from which decoding can start.
const KEY: u64 = 1;
/// ffmpeg's flag of a packet that an edit list hides.
const HIDDEN: u64 = 4;

/// A packet, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    /// When its frame is shown, in units of the stream.
    pub(crate) shown_at: i64,
    /// When it is decoded, in the same units.
    pub(crate) decoded_at: i64,
    /// Whether decoding can start here.
    pub(crate) key: bool,
    /// Whether an edit list hides its frame.
    pub(crate) hidden: bool,
}

/// Reads a list to its end. `None` if it has a line without times, or too many lines.
pub(super) fn read(from: impl Read) -> Option<Vec<Packet>> {
    let mut from = BufReader::new(from);
    let (mut packets, mut whole, mut line) = (Vec::new(), true, Vec::new());
    // The list is read to its end in any case, so that ffmpeg is never blocked by it.
    loop {
        line.clear();
        match from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        if text.starts_with('#') || text.trim().is_empty() {
            continue;
        }
        match packet(&text) {
            Some(packet) if packets.len() < MAX_PACKETS => packets.push(packet),
            _ => whole = false,
        }
    }
    (whole && !packets.is_empty()).then_some(packets)
}

/// Reads `stream, decoded at, shown at, duration, size, checksum[, F=flags]`. A packet without `F=` has
/// only the flag of a key packet.
fn packet(line: &str) -> Option<Packet> {
    let parts: Vec<&str> = line.split(',').map(str::trim).collect();
    let [_, decoded_at, shown_at, _, _, _, more @ ..] = &parts[..] else { return None };
    let flags = more.iter().find_map(|part| part.strip_prefix("F=0x"));
    let flags = flags.map_or(Some(KEY), |flags| u64::from_str_radix(flags, 16).ok())?;
    Some(Packet {
        shown_at: shown_at.parse().ok()?,
        decoded_at: decoded_at.parse().ok()?,
        key: flags & KEY != 0,
        hidden: flags & HIDDEN != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_times_are_read_and_a_line_without_times_spoils_the_list() {
        let text = "#tb 0: 1/30000\n0, -71071, -69069, 1001, 9888, 0xc08cf712, F=0x5\n\
                    0, 0, 2002, 1001, 7021, 0x55d76677\n0, 1001, 1001, 1001, 3, 0x2, F=0x0\n";
        let packets = read(text.as_bytes()).unwrap();
        let flags: Vec<_> = packets.iter().map(|packet| (packet.key, packet.hidden)).collect();
        assert_eq!(flags, [(true, true), (true, false), (false, false)]);
        assert_eq!((packets[0].decoded_at, packets[0].shown_at), (-71071, -69069));
        assert_eq!(read("0, NOPTS, NOPTS, 1, 2, 0x3\n".as_bytes()), None);
        assert_eq!(read("".as_bytes()), None);
    }
}
