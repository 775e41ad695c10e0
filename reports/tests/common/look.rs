//! Small pictures of pages with few colours, and how much two of them differ.

use std::collections::HashMap;

/// The number of colours of a stored picture.
const COLOURS: usize = 16;
/// The side of the squares whose mean colours are compared, in pixels of the small picture.
const SIDE: usize = 8;
/// The largest difference of a channel of a mean colour that is not seen, of 255.
const SEEN: f64 = 8.0;

/// A colour: red, green, blue.
type Rgb = [u8; 3];

/// Pixels as RGB.
#[derive(Clone, PartialEq)]
pub struct Look {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<Rgb>,
}

impl Look {
    /// Reads a PNG file.
    pub fn read(bytes: &[u8]) -> Look {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().expect("a PNG file");
        let mut data = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut data).expect("a picture");
        let each = info.color_type.samples();
        assert!(each >= 3, "a picture in colour");
        let pixels = data[..info.buffer_size()].chunks_exact(each).map(|p| [p[0], p[1], p[2]]);
        Look { width: info.width as usize, height: info.height as usize, pixels: pixels.collect() }
    }

    /// The same picture in its most frequent colours, as a PNG file with a palette.
    pub fn packed(&self) -> Vec<u8> {
        let palette = self.palette();
        let nearest = |pixel: &Rgb| {
            let away = |colour: &Rgb| -> i32 {
                let channels = pixel.iter().zip(colour);
                channels.map(|(a, b)| (i32::from(*a) - i32::from(*b)).pow(2)).sum()
            };
            (0..palette.len()).min_by_key(|at| away(&palette[*at])).unwrap_or(0) as u8
        };
        let mut known: HashMap<Rgb, u8> = HashMap::new();
        let mut packed = vec![];
        for row in self.pixels.chunks(self.width) {
            let of = |pixel: &Rgb| *known.entry(*pixel).or_insert_with(|| nearest(pixel));
            let indexes: Vec<u8> = row.iter().map(of).collect();
            packed.extend(indexes.chunks(2).map(|two| two[0] << 4 | two.get(1).unwrap_or(&0)));
        }
        let mut file = vec![];
        let mut encoder = png::Encoder::new(&mut file, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Four);
        encoder.set_palette(palette.concat());
        encoder.set_compression(png::Compression::High);
        // Rows of a picture with a palette are not smoother for being filtered.
        encoder.set_filter(png::Filter::NoFilter);
        let mut writer = encoder.write_header().expect("a header");
        writer.write_image_data(&packed).expect("the pixels");
        writer.finish().expect("an end");
        file
    }

    /// The most frequent colours, counted in steps of 16, so that the shades of text count together.
    fn palette(&self) -> Vec<Rgb> {
        let mut counts: HashMap<Rgb, (usize, HashMap<Rgb, usize>)> = HashMap::new();
        for pixel in &self.pixels {
            let group = counts.entry(pixel.map(|channel| channel / 16)).or_default();
            group.0 += 1;
            *group.1.entry(*pixel).or_default() += 1;
        }
        let mut groups: Vec<_> = counts.into_iter().collect();
        groups.sort_by_key(|(key, (count, _))| (std::cmp::Reverse(*count), *key));
        let most = |exact: &HashMap<Rgb, usize>| {
            exact
                .iter()
                .max_by_key(|(colour, count)| (**count, **colour))
                .map(|(colour, _)| *colour)
        };
        groups.iter().take(COLOURS).filter_map(|(_, (_, exact))| most(exact)).collect()
    }

    /// The share of squares whose mean colours differ so much that it is seen; 1 for another size.
    pub fn differs(&self, other: &Look) -> f64 {
        if (self.width, self.height) != (other.width, other.height) {
            return 1.0;
        }
        let (columns, rows) = (self.width.div_ceil(SIDE), self.height.div_ceil(SIDE));
        let seen = |at: usize| {
            let [a, b] = [self, other].map(|look| look.mean(at % columns, at / columns));
            a.iter().zip(b).any(|(a, b)| (a - b).abs() > SEEN)
        };
        let count = (0..columns * rows).filter(|at| seen(*at)).count();
        count as f64 / (columns * rows).max(1) as f64
    }

    /// The mean colour of a square.
    fn mean(&self, column: usize, row: usize) -> [f64; 3] {
        let (mut sum, mut count) = ([0.0; 3], 0.0);
        for y in row * SIDE..((row + 1) * SIDE).min(self.height) {
            for x in column * SIDE..((column + 1) * SIDE).min(self.width) {
                let pixel = self.pixels[y * self.width + x];
                sum.iter_mut().zip(pixel).for_each(|(sum, channel)| *sum += f64::from(channel));
                count += 1.0;
            }
        }
        sum.map(|sum| sum / count)
    }
}
