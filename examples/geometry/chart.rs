//! Line charts as SVG. Knows numbers and words, not what they mean.

use std::fmt::Write;

const INK: &str = "#333";
const FAINT: &str = "#ddd";
const SHADE: &str = "#e9e4da";
/// Names of lines keep this distance from each other.
const LINE_HEIGHT: f64 = 14.0;

/// A place for a chart, without its axes and names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// One line, with its name at its right end.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) color: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over an axis from 0 to 1.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// Small, below the title.
    pub(crate) note: String,
    pub(crate) x_name: String,
    /// Where to put which words below the axis.
    pub(crate) x_ticks: Vec<(f64, String)>,
    pub(crate) y_name: String,
    /// Whether values are shown by their logarithms; those that have none are left out.
    pub(crate) logarithmic: bool,
    pub(crate) lines: Vec<Line>,
    /// Bars behind the lines: position and share of the height.
    pub(crate) bars: Vec<(f64, f64)>,
}

/// A picture of this size with everything that `draw` puts into it.
pub(crate) fn svg(width: f64, height: f64, draw: impl FnOnce(&mut String)) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" \
         font-size=\"12\" fill=\"{INK}\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    draw(&mut text);
    text.push_str("</svg>\n");
    text
}

/// Some words; `style` is what else the element says.
pub(crate) fn words(svg: &mut String, x: f64, y: f64, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    put(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>"));
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{element}");
}

impl Chart {
    pub(crate) fn draw(&self, svg: &mut String, frame: Frame) {
        let scale = Scale::over(self, frame);
        let Frame { left, top, width, height } = frame;
        let (right, bottom) = (left + width, top + height);
        words(svg, left, top - 22.0, "font-size=\"13\" font-weight=\"bold\"", &self.title);
        words(svg, left, top - 7.0, "font-size=\"11\" fill=\"#8a8170\"", &self.note);
        self.draw_bars(svg, frame);
        for value in scale.ticks() {
            let y = scale.y(value);
            put(
                svg,
                format_args!(
                    "<line x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{FAINT}\"/>"
                ),
            );
            words(svg, left - 7.0, y + 4.0, "text-anchor=\"end\"", &short(value));
        }
        put(
            svg,
            format_args!(
                "<line x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\" stroke=\"{INK}\"/>"
            ),
        );
        for (place, name) in &self.x_ticks {
            let x = left + place * width;
            put(
                svg,
                format_args!(
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\" stroke=\"{INK}\"/>",
                    bottom + 4.0
                ),
            );
            words(svg, x, bottom + 17.0, "text-anchor=\"middle\"", name);
        }
        let middle = left + width / 2.0;
        words(svg, middle, bottom + 35.0, "text-anchor=\"middle\"", &self.x_name);
        let (x, y) = (left - 58.0, top + height / 2.0);
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 {x:.1} {y:.1})\"");
        words(svg, x, y, &turned, &self.y_name);
        self.draw_lines(svg, frame, &scale);
    }

    fn draw_bars(&self, svg: &mut String, frame: Frame) {
        let width = frame.width / self.bars.len().max(1) as f64;
        for &(place, share) in self.bars.iter().filter(|(_, share)| *share > 0.0) {
            let (height, x) = (share * frame.height, frame.left + place * frame.width);
            let (left, top) = (x - width / 2.0, frame.top + frame.height - height);
            put(
                svg,
                format_args!(
                    "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
                     fill=\"{SHADE}\"/>"
                ),
            );
        }
    }

    fn draw_lines(&self, svg: &mut String, frame: Frame, scale: &Scale) {
        let mut names = Vec::new();
        for Line { name, color, points } in &self.lines {
            let places: Vec<(f64, f64)> = points
                .iter()
                .filter(|&&(_, value)| scale.shows(value))
                .map(|&(place, value)| (frame.left + place * frame.width, scale.y(value)))
                .collect();
            let Some(&(_, end)) = places.last() else { continue };
            let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            put(
                svg,
                format_args!(
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.8\" \
                     stroke-linejoin=\"round\"/>",
                    path.join(" ")
                ),
            );
            for (x, y) in &places {
                put(
                    svg,
                    format_args!(
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\" fill=\"{color}\"/>"
                    ),
                );
            }
            names.push((end, name, color));
        }
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted: Vec<f64> = names.iter().map(|name| name.0).collect();
        for (y, (_, name, color)) in apart(&wanted).into_iter().zip(names) {
            let style = format!("fill=\"{color}\"");
            words(svg, frame.left + frame.width + 8.0, y + 4.0, &style, name);
        }
    }
}

/// The same heights, ascending, moved so that names do not lie on each other.
fn apart(wanted: &[f64]) -> Vec<f64> {
    let mut places = wanted.to_vec();
    for place in 1..places.len() {
        places[place] = places[place].max(places[place - 1] + LINE_HEIGHT);
    }
    // The crowd keeps its middle.
    let moved = places.iter().zip(wanted).map(|(place, wanted)| place - wanted).sum::<f64>();
    let back = moved / places.len().max(1) as f64;
    places.iter().map(|place| place - back).collect()
}

/// From values to heights in the picture.
struct Scale {
    logarithmic: bool,
    low: f64,
    high: f64,
    top: f64,
    height: f64,
}

impl Scale {
    fn over(chart: &Chart, frame: Frame) -> Self {
        let Frame { top, height, .. } = frame;
        let logarithmic = chart.logarithmic;
        let values = chart.lines.iter().flat_map(|line| &line.points).map(|&(_, value)| value);
        let shown = values.filter(|value| value.is_finite() && (!logarithmic || *value > 0.0));
        let (low, high) = shown
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = match logarithmic {
            // With nothing to show, anything will do.
            _ if high <= 0.0 => (if logarithmic { 0.1 } else { 0.0 }, 1.0),
            true => (low / 1.25, high * 1.25),
            false => (0.0, high * 1.08),
        };
        Self { logarithmic, low, high, top, height }
    }

    fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.logarithmic || value > 0.0)
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.top + self.height * (1.0 - share)
    }

    /// Round values within the range: powers of ten, more where there are few; else about five.
    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let of = |factors: &'static [f64]| -> Vec<f64> {
                let values = decades
                    .clone()
                    .flat_map(|decade| factors.iter().map(move |it| it * 10_f64.powi(decade)));
                values.filter(|value| (self.low..=self.high).contains(value)).collect()
            };
            let powers = of(&[1.0]);
            return if powers.len() > 2 { powers } else { of(&[1.0, 2.0, 5.0]) };
        }
        let rough = (self.high - self.low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|it| it * power >= rough);
        let step = step.unwrap_or(10.0) * power;
        (0..=10).map(|tick| f64::from(tick) * step).take_while(|&it| it <= self.high).collect()
    }
}

/// A number without the digits that arithmetic has left at its end.
fn short(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(logarithmic: bool, values: &[f64]) -> Chart {
        let points = values.iter().enumerate().map(|(place, &value)| (place as f64 / 2.0, value));
        let line = Line { name: "a < b".to_owned(), color: "#123456", points: points.collect() };
        Chart {
            title: "title".to_owned(),
            note: "note".to_owned(),
            x_name: "x".to_owned(),
            x_ticks: vec![(0.5, "half".to_owned())],
            y_name: "y".to_owned(),
            logarithmic,
            lines: vec![line],
            bars: vec![(0.0, 0.0), (1.0, 0.5)],
        }
    }

    const FRAME: Frame = Frame { left: 100.0, top: 50.0, width: 200.0, height: 80.0 };

    fn drawn(chart: &Chart) -> String {
        svg(400.0, 200.0, |svg| chart.draw(svg, FRAME))
    }

    #[test]
    fn points_lie_where_their_values_are() {
        let linear = chart(false, &[0.0, 50.0, 100.0]);
        let scale = Scale::over(&linear, FRAME);
        assert_eq!(scale.y(0.0), 130.0);
        assert!((scale.y(54.0) - 90.0).abs() < 1e-9, "the axis ends at 108");
        assert_eq!(scale.ticks(), [0.0, 50.0, 100.0]);
        let logarithmic = chart(true, &[1e-4, 1e-2, 1.0]);
        let scale = Scale::over(&logarithmic, FRAME);
        assert!((scale.y(1e-2) - 90.0).abs() < 1e-9);
        let ticks: Vec<String> = scale.ticks().into_iter().map(short).collect();
        assert_eq!(ticks, ["0.0001", "0.001", "0.01", "0.1", "1"]);
    }

    #[test]
    fn a_picture_is_sound_whatever_it_shows() {
        for values in [&[][..], &[0.0, 0.0], &[f64::NAN, 1.0], &[0.3], &[-1.0, 2.0, 1e9]] {
            for logarithmic in [false, true] {
                let text = drawn(&chart(logarithmic, values));
                assert!(!text.contains("NaN") && !text.contains("inf"), "{values:?}: {text}");
                assert_eq!(text.matches("<text").count(), text.matches("</text>").count());
                assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
            }
        }
        let text = drawn(&chart(false, &[0.5, 1.0]));
        assert!(text.contains("a &lt; b") && text.contains("half") && text.contains("#e9e4da"));
    }

    #[test]
    fn names_do_not_lie_on_each_other() {
        let places = apart(&[10.0, 11.0, 12.0, 100.0]);
        assert!(
            places.windows(2).all(|pair| pair[1] - pair[0] >= LINE_HEIGHT - 1e-9),
            "{places:?}"
        );
        assert_eq!(apart(&[1.0, 50.0]), [1.0, 50.0]);
        assert!(apart(&[]).is_empty());
    }
}
