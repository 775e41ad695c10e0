//! The walk of decord's `get_batch` through an MP4 file, computed from the times of its packets.
//!
//! decord numbers frames by the order in which they are shown, and keyframes by their place in the file. It
//! seeks to the keyframe whose *place* is at most the wanted *number*, looks at the first frame that comes
//! out, and counts frames from there. Where place and number differ (open groups of pictures, hidden
//! frames), it arrives at other frames, and at which ones depends on the frames that were asked before.

use crate::decode::Packet;

/// The largest number of steps back that decord tries at the end of a file.
const MAX_REWIND: usize = 128;

/// The number of each packet's frame in the order of display.
pub(super) fn places(packets: &[Packet]) -> Vec<usize> {
    let mut places = vec![0; packets.len()];
    for (place, at) in by_time(packets).into_iter().enumerate() {
        places[at] = place;
    }
    places
}

/// The packets in the order of display.
fn by_time(packets: &[Packet]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..packets.len()).collect();
    order.sort_by_key(|&at| packets[at].shown_at);
    order
}

/// The shown frame (counted without the hidden ones) that decord returns for each index of `asked`, in this
/// order; `None` where it would give up.
pub(super) fn walk(packets: &[Packet], asked: &[usize]) -> Option<Vec<usize>> {
    let mut reader = Reader::new(packets)?;
    let mut known = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    for &index in asked {
        let frame = match known.get(&index) {
            Some(&frame) => frame,
            None => reader.get(index)?,
        };
        known.insert(index, frame);
        found.push(frame);
    }
    let mut shown = vec![None; packets.len()];
    let visible = reader.order.iter().filter(|&&at| !packets[at].hidden);
    visible.enumerate().for_each(|(number, &at)| shown[at] = Some(number));
    found.into_iter().map(|at| shown[at]).collect()
}

/// The state of a decord reader. Frames are named by their packets.
struct Reader<'a> {
    packets: &'a [Packet],
    order: Vec<usize>,
    places: Vec<usize>,
    keys: Vec<usize>,
    /// The times by which the container is searched.
    times: Vec<i64>,
    /// The number that decord believes the next frame to have.
    current: usize,
    /// The keyframe from which the decoder was started, and the place in `order` that it has reached.
    from: usize,
    at: usize,
    last: Option<usize>,
    /// A keyframe that was decoded to check a seek, and that is returned next.
    held: Option<usize>,
}

impl<'a> Reader<'a> {
    fn new(packets: &'a [Packet]) -> Option<Self> {
        let order = by_time(packets);
        // In the index of its container, decord's FFmpeg gives the first packet that is not hidden the time
        // at which the first frame is shown.
        let first_shown = order.iter().find(|&&at| !packets[at].hidden)?;
        let first_packet = packets.iter().find(|packet| !packet.hidden)?;
        let shift = packets[*first_shown].shown_at.checked_sub(first_packet.decoded_at)?;
        let times = packets.iter().map(|p| p.decoded_at.saturating_add(shift)).collect();
        let keys = (0..packets.len()).filter(|&at| packets[at].key).collect();
        let (places, current) = (places(packets), packets.len());
        let mut reader = Reader {
            packets,
            order,
            places,
            keys,
            times,
            current,
            from: 0,
            at: 0,
            last: None,
            held: None,
        };
        reader.seek(0);
        Some(reader)
    }

    fn get(&mut self, index: usize) -> Option<usize> {
        if index >= self.packets.len() {
            return None;
        }
        if self.current != index {
            self.seek_accurately(index);
        }
        self.next()
    }

    /// The next frame that comes out of the decoder: those before the keyframe in the order of display lack
    /// what they refer to, and hidden ones are dropped.
    fn pop(&mut self) -> Option<usize> {
        while let Some(&at) = self.order.get(self.at) {
            self.at += 1;
            if at >= self.from && !self.packets[at].hidden {
                return Some(at);
            }
        }
        None
    }

    fn next(&mut self) -> Option<usize> {
        if let Some(frame) = self.held.take() {
            return Some(frame);
        }
        if self.current >= self.packets.len() {
            return None;
        }
        for back in 0..=MAX_REWIND {
            if let Some(frame) = self.pop().or(self.last) {
                self.current += 1;
                self.last = Some(frame);
                return Some(frame);
            }
            self.seek_accurately(self.current.checked_sub(back)?);
        }
        None
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count.min(self.packets.len() - self.current) {
            self.pop();
            self.current += 1;
        }
    }

    fn seek(&mut self, index: usize) {
        if self.current == index {
            return;
        }
        let time = self.packets[self.order[index]].shown_at;
        let backward = self.current > index;
        let found = self.search(time, backward).or_else(|| self.search(time, true));
        self.from = found.unwrap_or(0);
        self.at = self.places[self.from];
        self.last = None;
        self.current = index;
    }

    fn seek_accurately(&mut self, index: usize) {
        if self.current == index {
            return;
        }
        let key = self.key_before(index);
        self.held = None;
        if key == self.key_before(self.current) && index >= self.current {
            self.skip(index - self.current);
            return;
        }
        self.seek(0);
        self.seek(key);
        let first = self.pop();
        let number = first.map_or(self.packets.len() - 1, |at| self.places[at]);
        let right = number == self.current;
        self.current = number + 1;
        match (right, self.current.cmp(&index)) {
            (true, std::cmp::Ordering::Greater) => self.held = first,
            (_, std::cmp::Ordering::Less) => self.skip(index - self.current),
            (true, std::cmp::Ordering::Equal) => {}
            (false, _) => {
                let key = self.key_before(index);
                self.seek(key);
                self.skip(index - key);
            }
        }
    }

    /// The keyframe whose place is the last one up to a number.
    fn key_before(&self, index: usize) -> usize {
        let after = self.keys.partition_point(|&key| key <= index);
        if after == 0 { 0 } else { self.keys[after - 1] }
    }

    /// The keyframe that a search for a time finds: the last one up to the last packet that is not later,
    /// or the first one from the first packet that is not earlier.
    fn search(&self, time: i64, backward: bool) -> Option<usize> {
        let is_key = |&at: &usize| self.packets[at].key;
        if !backward {
            let first = self.times.partition_point(|&other| other < time);
            return (first..self.times.len()).find(is_key);
        }
        match self.times.partition_point(|&other| other <= time) {
            0 => Some(0),
            count => (0..count).rev().find(is_key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of a file in units of a frame: groups of twelve, in which each I or P frame is followed by
    /// two B frames that are shown before it. With `open`, those after an I frame belong to the group before.
    fn packets(groups: usize, open: bool) -> Vec<Packet> {
        let mut shown: Vec<(i64, bool)> = vec![];
        for group in 0..groups as i64 {
            let first = 12 * group;
            shown.push((first, true));
            if open && group > 0 {
                shown.extend([(first - 2, false), (first - 1, false)]);
            }
            for at in [3, 6, 9] {
                shown.extend([at, at - 2, at - 1].map(|at| (first + at, false)));
            }
            if !open {
                shown.extend([10, 11].map(|at| (first + at, false)));
            }
        }
        let packet = |(at, (shown_at, key)): (usize, (i64, bool))| Packet {
            shown_at,
            decoded_at: at as i64 - 1,
            key,
            hidden: false,
        };
        shown.into_iter().enumerate().map(packet).collect()
    }

    #[test]
    fn closed_groups_are_walked_in_order() {
        let packets = packets(6, false);
        let asked = [50, 54, 58, 2, 6, 71, 0, 50];
        assert_eq!(walk(&packets, &asked).unwrap(), asked);
    }

    #[test]
    fn behind_the_keyframe_of_an_open_group_frames_come_late() {
        let packets = packets(6, true);
        assert_eq!(packets.iter().position(|p| p.shown_at == 24 && p.key), Some(22));
        // The keyframe in place 22 is number 24. A frame up to it is counted from there without a look.
        assert_eq!(walk(&packets, &[22]).unwrap(), [24]);
        assert_eq!(walk(&packets, &[24]).unwrap(), [26]);
        assert_eq!(walk(&packets, &[30]).unwrap(), [30]);
    }

    #[test]
    fn hidden_packets_are_counted_and_not_shown() {
        let mut packets = packets(4, false);
        packets[..12].iter_mut().for_each(|packet| packet.hidden = true);
        packets.iter_mut().for_each(|packet| {
            packet.shown_at -= 12;
            packet.decoded_at -= 12;
        });
        // From the start no seek is needed, and the decoder returns only shown frames.
        assert_eq!(walk(&packets, &[4, 8]).unwrap(), [4, 8]);
        // After a seek the numbers are those of all packets.
        assert_eq!(walk(&packets, &[20]).unwrap(), [8]);
    }

    #[test]
    fn times_without_sense_do_no_harm() {
        let odd = |shown_at, decoded_at| Packet { shown_at, decoded_at, key: true, hidden: false };
        let packets = [odd(i64::MAX, i64::MIN), odd(i64::MIN, i64::MAX), odd(0, 0)];
        let _ = walk(&packets, &[0, 1, 2]);
        assert_eq!(walk(&[], &[0]), None);
        let hidden = [Packet { hidden: true, ..odd(0, 0) }];
        assert_eq!(walk(&hidden, &[0]), None);
    }
}
