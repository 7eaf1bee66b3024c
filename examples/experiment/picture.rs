//! Grey images as characters: people would rather look than read.

use std::io::{self, Write};

/// From paper to ink.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];
const LINE: usize = 80;
const GAP: usize = 3;
/// An image of this width or more has a margin that is not worth its place, and pixels enough for
/// one character each.
const LARGE: usize = 20;
const MARGIN: usize = 2;

/// A square image of values in 0 to 1, and the lines under it.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) pixels: Vec<f32>,
    pub(super) width: usize,
    pub(super) caption: Vec<String>,
}

/// How many pictures of images of this width fit beside each other.
pub(super) fn in_a_line(width: usize) -> usize {
    ((LINE + GAP) / (columns(width) + GAP)).max(1)
}

fn columns(width: usize) -> usize {
    if width < LARGE { 2 * width } else { width - 2 * MARGIN }
}

/// Draws pictures of the same size beside each other.
pub(super) fn line(output: &mut dyn Write, pictures: &[Picture]) -> io::Result<()> {
    let Some(first) = pictures.first() else { return Ok(()) };
    let width = columns(first.width);
    let text = |picture: &Picture| [drawn(picture), picture.caption.clone()].concat();
    let texts: Vec<Vec<String>> = pictures.iter().map(text).collect();
    for number in 0..texts[0].len() {
        let cells = texts.iter().filter_map(|text| text.get(number));
        let cells: Vec<String> = cells.map(|cell| format!("{cell:<width$}")).collect();
        let line = format!("  {}", cells.join(&" ".repeat(GAP)));
        writeln!(output, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A character is twice as high as it is wide: a pixel of a small image takes two of them, and two
/// pixels of a large one, the upper and the lower, take one.
fn drawn(picture: &Picture) -> Vec<String> {
    let width = picture.width;
    let shade =
        |ink: f32| SHADES[(ink * SHADES.len() as f32).min(SHADES.len() as f32 - 1.0) as usize];
    let rows: Vec<&[f32]> = picture.pixels.chunks_exact(width).collect();
    if width < LARGE {
        return rows
            .iter()
            .map(|row| row.iter().flat_map(|&ink| [shade(ink); 2]).collect())
            .collect();
    }
    let inside = MARGIN..width - MARGIN;
    let pairs = rows[inside.clone()].chunks_exact(2);
    pairs
        .map(|pair| inside.clone().map(|x| shade(f32::midpoint(pair[0][x], pair[1][x]))).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(pixels: Vec<f32>, width: usize) -> Picture {
        Picture { pixels, width, caption: vec!["id 7".to_owned()] }
    }

    fn text(pictures: &[Picture]) -> String {
        let mut output = Vec::new();
        line(&mut output, pictures).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn small_images_take_two_characters_a_pixel_and_stand_side_by_side() {
        let one = || picture(vec![0.0, 0.25, 0.5, 1.0], 2);
        assert_eq!(text(&[one(), one()]), "    ░░     ░░\n  ▒▒██   ▒▒██\n  id 7   id 7\n");
    }

    #[test]
    fn large_images_lose_their_margin_and_every_other_line() {
        let mut pixels = vec![0.0; 28 * 28];
        pixels[2 * 28 + 2] = 1.0;
        pixels[3 * 28 + 2] = 1.0;
        pixels[24 * 28 + 25] = 1.0;
        let text = text(&[picture(pixels, 28)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (13, "  █"));
        assert_eq!(lines[11], format!("  {:23}▒", ""));
    }

    #[test]
    fn lines_fit_a_terminal() {
        assert_eq!((in_a_line(8), in_a_line(28), in_a_line(500)), (4, 3, 1));
    }
}
