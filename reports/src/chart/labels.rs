//! Places the names of points so that no name covers another name or a point.

use super::svg::{Anchor, width_of};

/// Height of a line of text in pixels.
const LINE: f64 = 14.0;
/// Half of the side of the square around a mark that no name may cover.
const MARK: f64 = 5.0;

/// A rectangle: left, top, right, bottom.
type Box4 = [f64; 4];

/// A name, and the mark that it belongs to.
pub(super) struct Wish<'a> {
    pub name: &'a str,
    pub mark: (f64, f64),
}

/// Where a name was placed: its base line and the end that lies there.
pub(super) type Place = ((f64, f64), Anchor);

/// Places names in order, each at the first free side of its mark; `None` where none is free.
pub(super) fn place(wishes: &[Wish<'_>], marks: &[(f64, f64)], frame: Box4) -> Vec<Option<Place>> {
    let mut taken: Vec<Box4> =
        marks.iter().map(|(x, y)| [x - MARK, y - MARK, x + MARK, y + MARK]).collect();
    let mut found = vec![];
    for wish in wishes {
        let sides = sides(wish);
        let free = |(_, area): &&(Place, Box4)| {
            let inside = area[0] >= frame[0]
                && area[1] >= frame[1]
                && area[2] <= frame[2]
                && area[3] <= frame[3];
            inside && !taken.iter().any(|other| overlap(area, other))
        };
        let chosen = sides.iter().find(free).copied();
        taken.extend(chosen.map(|(_, area)| area));
        found.push(chosen.map(|(place, _)| place));
    }
    found
}

/// The places around a mark, the best first, with the rectangles that the name would cover.
fn sides(wish: &Wish<'_>) -> [(Place, Box4); 8] {
    let (x, y) = wish.mark;
    let width = width_of(wish.name);
    let at = |dx: f64, dy: f64, anchor: Anchor| {
        let left = match anchor {
            Anchor::Start => x + dx,
            Anchor::Middle => x + dx - width / 2.0,
            Anchor::End => x + dx - width,
        };
        let base = y + dy;
        (((x + dx, base), anchor), [left, base - LINE + 4.0, left + width, base + 3.0])
    };
    [
        at(9.0, 4.0, Anchor::Start),
        at(0.0, -9.0, Anchor::Middle),
        at(-9.0, 4.0, Anchor::End),
        at(0.0, 19.0, Anchor::Middle),
        at(7.0, -6.0, Anchor::Start),
        at(7.0, 16.0, Anchor::Start),
        at(-7.0, -6.0, Anchor::End),
        at(-7.0, 16.0, Anchor::End),
    ]
}

fn overlap(a: &Box4, b: &Box4) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_same_point_do_not_cover_each_other() {
        let marks = [(50.0, 50.0), (52.0, 50.0)];
        let wishes = marks.map(|mark| Wish { name: "a name", mark });
        let places = place(&wishes, &marks, [0.0, 0.0, 200.0, 100.0]);
        assert!(places.iter().all(Option::is_some) && places[0] != places[1]);
        assert_eq!(place(&wishes, &marks, [0.0, 0.0, 20.0, 20.0]), [None, None]);
    }
}
