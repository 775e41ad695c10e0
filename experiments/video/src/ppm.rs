//! Reads frames from ffmpeg's pipe, which are portable pixmaps (PPM), each with its own size.

use std::io::{self, BufRead, Read};

use crate::Frame;

/// The largest accepted width or height of a frame, in pixels.
const MAX_SIDE: usize = 16_384;
/// The largest accepted number of pixels of a frame: 8192 x 8192.
const MAX_PIXELS: usize = 1 << 26;

/// Reads a frame into `frame`, whose memory is used again; `false` at the end of the stream.
pub(crate) fn read(from: &mut impl BufRead, frame: &mut Frame) -> io::Result<bool> {
    if from.fill_buf()?.is_empty() {
        return Ok(false);
    }
    let mut magic = [0; 3];
    from.read_exact(&mut magic)?;
    let (width, height, most) = (number(from)?, number(from)?, number(from)?);
    let sane = |side: usize| (1..=MAX_SIDE).contains(&side);
    if &magic != b"P6\n" || most != 255 {
        return Err(invalid("the decoder sent something that is not a PPM picture".to_owned()));
    }
    if !sane(width) || !sane(height) || width * height > MAX_PIXELS {
        return Err(invalid(format!("a frame of {width} x {height} pixels is empty or too large")));
    }
    (frame.width, frame.height) = (width, height);
    frame.data.resize(3 * width * height, 0);
    from.read_exact(&mut frame.data)?;
    Ok(true)
}

/// Reads a number of at most seven digits and the white space that ends it.
fn number(from: &mut impl Read) -> io::Result<usize> {
    let mut value = 0usize;
    for _ in 0..8 {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        match byte[0] {
            digit @ b'0'..=b'9' => value = 10 * value + usize::from(digit - b'0'),
            b' ' | b'\n' => return Ok(value),
            _ => break,
        }
    }
    Err(invalid("the decoder sent a picture without a size".to_owned()))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_each_other_and_each_has_its_size() {
        let mut stream: &[u8] = b"P6\n1 2\n255\nabcdefP6\n1 1\n255\nxyz";
        let mut frame = Frame { width: 0, height: 0, data: vec![] };
        assert!(read(&mut stream, &mut frame).unwrap());
        assert_eq!((frame.width, frame.height, &frame.data[..]), (1, 2, &b"abcdef"[..]));
        assert!(read(&mut stream, &mut frame).unwrap());
        assert_eq!((frame.height, &frame.data[..]), (1, &b"xyz"[..]));
        assert!(!read(&mut stream, &mut frame).unwrap());
    }

    #[test]
    fn bad_headers_are_refused() {
        let streams: [&[u8]; 6] = [
            b"P6\n0 2\n255\n",
            b"P6\n99999 2\n255\n",
            b"P6\n16384 16384\n255\n",
            b"P5\n1 1\n255\nx",
            b"P6\n1 1\n255\nxy",
            b"P6\n123456789 1\n255\n",
        ];
        for mut stream in streams {
            let mut frame = Frame { width: 0, height: 0, data: vec![] };
            assert!(read(&mut stream, &mut frame).is_err(), "{stream:?}");
        }
    }
}
