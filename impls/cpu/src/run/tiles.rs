//! The order of the Winograd tiles of a batch.
//!
//! Short tiles ([`crate::kernels::winograd`]) use some of the planes. The order is such that the tiles
//! which use a plane lie next to each other: first those that are short in rows only, then whole ones,
//! then those that are short in columns only, then those that are short in both.

use crate::kernels::winograd::Tile;

/// The tiles of a batch.
#[derive(Debug, Clone, Copy)]
pub struct TileOrder {
    tile: Tile,
    /// Whole rows of tiles in an image, and 1 if there is a short one.
    rows: [usize; 2],
    /// The same for columns.
    columns: [usize; 2],
    /// End of each of the four groups.
    ends: [usize; 4],
}

impl TileOrder {
    /// The tiles for maps of `size` pixels (height, width) of `clips` clips.
    pub fn new(tile: Tile, size: (usize, usize), clips: usize) -> Self {
        let (rows, columns) = (tile.cover(size.0), tile.cover(size.1));
        let mut end = 0;
        let ends = Self::groups(rows, columns).map(|(height, width)| {
            end += clips * height * width;
            end
        });
        TileOrder { tile, rows, columns, ends }
    }

    /// Rows and columns of tiles that each image has of each group.
    fn groups(rows: [usize; 2], columns: [usize; 2]) -> [(usize, usize); 4] {
        [(1, 0), (0, 0), (0, 1), (1, 1)].map(|(row, column)| (rows[row], columns[column]))
    }

    /// Number of tiles.
    pub fn count(&self) -> usize {
        self.ends[3]
    }

    /// The image of a tile, and its row and column of tiles.
    pub fn place(&self, index: usize) -> (usize, usize, usize) {
        let group = self.ends.iter().filter(|end| **end <= index).count();
        let (height, width) = Self::groups(self.rows, self.columns)[group];
        let within = index - if group > 0 { self.ends[group - 1] } else { 0 };
        let (image, row, column) =
            (within / (height * width), within / width % height, within % width);
        match group {
            0 => (image, self.rows[0], column),
            1 => (image, row, column),
            2 => (image, row, self.columns[0]),
            _ => (image, self.rows[0], self.columns[0]),
        }
    }

    /// The tiles that use a plane (half-open).
    pub fn users(&self, plane: usize) -> (usize, usize) {
        let n = self.tile.side() + 2;
        let short = |point: usize| self.tile.short_tile_uses(point);
        let [first, whole, columns, all] = self.ends;
        match (short(plane / n), short(plane % n)) {
            (true, true) => (0, all),
            (true, false) => (0, whole),
            (false, true) => (first, columns),
            (false, false) => (first, whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_has_a_place_and_the_users_of_a_plane_are_those_that_have_its_points() {
        for tile in [Tile::F2, Tile::F4] {
            for (size, clips) in
                [((14, 14), 3), ((7, 7), 2), ((1, 9), 1), ((12, 6), 2), ((28, 5), 1)]
            {
                let order = TileOrder::new(tile, size, clips);
                let tiles = size.0.div_ceil(tile.side()) * size.1.div_ceil(tile.side());
                let mut places: Vec<_> = (0..order.count()).map(|at| order.place(at)).collect();
                for plane in 0..tile.planes() {
                    let (first, last) = order.users(plane);
                    let n = tile.side() + 2;
                    let has = |points: [usize; 2], at: usize, point: usize| {
                        at < points[0] || tile.short_tile_uses(point)
                    };
                    for (at, &(_, row, column)) in places.iter().enumerate() {
                        let uses = has(tile.cover(size.0), row, plane / n)
                            && has(tile.cover(size.1), column, plane % n);
                        assert_eq!((first..last).contains(&at), uses, "{tile:?} {size:?} {plane}");
                    }
                }
                places.sort_unstable();
                places.dedup();
                assert_eq!(places.len(), clips * tiles, "{tile:?} {size:?}");
                assert!(places.iter().all(|place| place.0 < clips));
            }
        }
    }
}
