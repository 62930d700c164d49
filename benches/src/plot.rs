//! The plots of the report, as SVG: lines over logarithmic axes, and bars.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::spread::Spread;

const SIZE: (u32, u32) = (840, 420);
const TEXT: (&str, i32) = ("sans-serif", 15);
const CAPTION: (&str, i32) = ("sans-serif", 19);

/// Colours that are told apart by the colour-blind (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

/// A line of a plot.
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Whether the points are marked: they were measured.
    pub marked: bool,
}

/// How an axis is labelled.
pub struct Axis<'a> {
    /// What it shows, with the unit.
    pub title: &'a str,
    /// A value as it is written.
    pub label: &'a dyn Fn(f64) -> String,
}

/// Plots lines; the horizontal axis is logarithmic, the vertical one where that is asked for.
///
/// # Errors
/// There is nothing to plot, or the file cannot be written.
pub fn lines(
    path: &Path,
    title: &str,
    x: &Axis<'_>,
    y: &Axis<'_>,
    logarithmic: bool,
    lines: &[Line],
) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let across = reach(points().map(|(x, _)| x))?;
    let up = reach(points().map(|(_, y)| y))?;
    let across = across.start..across.end.max(across.start * 1.01);
    let (xs, top) = (across.log_scale(), up.end * 1.08);
    if logarithmic {
        draw(&root, title, (xs, x), ((up.start * 0.8..up.end * 1.3).log_scale(), y), lines)
    } else {
        draw(&root, title, (xs, x), (0.0..top, y), lines)
    }
    .and_then(|()| root.present().map_err(failed))
}

fn draw<X, Y>(
    root: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    (xs, x): (X, &Axis<'_>),
    (ys, y): (Y, &Axis<'_>),
    lines: &[Line],
) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    root.fill(&WHITE).map_err(failed)?;
    let mut chart = ChartBuilder::on(root)
        .caption(title, CAPTION)
        .margin(14)
        .x_label_area_size(46)
        .y_label_area_size(66)
        .build_cartesian_2d(xs, ys)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(x.title)
        .y_desc(y.title)
        .x_label_formatter(&|value| (x.label)(*value))
        .y_label_formatter(&|value| (y.label)(*value))
        .label_style(TEXT)
        .draw()
        .map_err(failed)?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))
            .map_err(failed)?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        if line.marked {
            let points = line.points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(points).map_err(failed)?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(TEXT)
        .draw()
        .map_err(failed)
}

/// Plots a bar for each: the median, and a stroke from the least to the most.
///
/// # Errors
/// There is nothing to plot, or the file cannot be written.
pub fn bars(path: &Path, title: &str, unit: &str, bars: &[(String, Spread)]) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let up = reach(bars.iter().map(|(_, spread)| spread.max))?;
    let label = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) => bars.get(*at).map_or_else(String::new, |(name, _)| name.clone()),
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(&root)
        .caption(title, CAPTION)
        .margin(14)
        .x_label_area_size(34)
        .y_label_area_size(66)
        .build_cartesian_2d((0..bars.len() - 1).into_segmented(), 0.0..up.end * 1.08)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .y_desc(unit)
        .x_label_formatter(&label)
        .label_style(TEXT)
        .draw()
        .map_err(failed)?;
    for (at, (name, spread)) in bars.iter().enumerate() {
        // The director's are told from all others.
        let colour = COLOURS[usize::from(!name.starts_with("director"))];
        let mut bar = Rectangle::new(
            [(SegmentValue::Exact(at), 0.0), (SegmentValue::Exact(at + 1), spread.median)],
            colour.filled(),
        );
        bar.set_margin(0, 0, 14, 14);
        let middle = SegmentValue::CenterOf(at);
        let stroke =
            PathElement::new([(middle.clone(), spread.min), (middle, spread.max)], BLACK.stroke_width(2));
        chart.draw_series([bar]).map_err(failed)?;
        chart.draw_series([stroke]).map_err(failed)?;
    }
    root.present().map_err(failed)
}

/// From the least to the most of values, which are above 0.
fn reach(values: impl Iterator<Item = f64>) -> Result<Range<f64>> {
    let all = Spread::of(values).filter(|spread| spread.min > 0.0 && spread.max.is_finite());
    all.map(|spread| spread.min..spread.max).ok_or_else(|| anyhow!("there is nothing above 0 to plot"))
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot plot: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_bars_are_drawn() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.svg");
        let axis = Axis { title: "things", label: &|value| format!("{value}") };
        let line = Line { name: "one".to_owned(), points: vec![(1.0, 2.0), (1e6, 3.0)], marked: true };
        for logarithmic in [false, true] {
            lines(&path, "title", &axis, &axis, logarithmic, std::slice::from_ref(&line)).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("<polyline") && text.contains("title") && text.contains("one"), "{text}");
        }
        let spread = Spread { median: 2.0, min: 1.0, max: 3.0 };
        bars(&path, "title", "unit", &[("director".to_owned(), spread), ("rival".to_owned(), spread)])
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("<rect") && text.contains("director") && text.contains("rival"), "{text}");
        assert!(bars(&path, "title", "unit", &[]).is_err());
    }
}
