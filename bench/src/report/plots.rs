//! Plots as SVG, which the page colours itself: their ink is a few colours that its style sheet maps to light and dark.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// Axes, labels and captions: `--ink` in the page.
pub(super) const INK: RGBColor = RGBColor(1, 1, 1);
/// Lines of the mesh: `--mesh` in the page.
pub(super) const MESH: RGBColor = RGBColor(2, 2, 2);
/// The plot's ground: `--paper` in the page.
pub(super) const PAPER: RGBColor = RGBColor(3, 3, 3);
/// One for each series, told apart by people with and without full colour vision (Okabe and Ito), readable on light and
/// on dark.
const SERIES: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(140, 140, 140),
    RGBColor(148, 103, 189),
];
const SIZE: (u32, u32) = (860, 420);
const FONT: &str = "sans-serif";

/// A named line.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What a plot shows.
#[derive(Debug)]
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) series: &'a [Series],
    pub(crate) scale: Scale,
}

/// How axes run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scale {
    /// Both from 0.
    Linear,
    /// Latency over rate: y logarithmic.
    LogY,
    /// Latency over percentile: x counts nines (1 is 90 %, 2 is 99 %), y logarithmic.
    Nines,
}

/// The colour of a series.
fn colour(index: usize) -> RGBColor {
    SERIES[index % SERIES.len()]
}

/// The same, as a style sheet says it.
pub(super) fn css_colour(index: usize) -> String {
    let RGBColor(red, green, blue) = colour(index);
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Draws a plot, or nothing where there are no points. Who is who stands in the page, not in the way of the lines.
pub(super) fn draw(plot: &Plot<'_>) -> Option<String> {
    let points = || plot.series.iter().flat_map(|series| series.points.iter().copied());
    points().next()?;
    let x_max = points().map(|(x, _)| x).fold(0.0, f64::max).max(1e-9) * 1.05;
    let y_max = points().map(|(_, y)| y).fold(0.0, f64::max).max(1e-9) * 1.1;
    let y_min = points().map(|(_, y)| y).fold(f64::INFINITY, f64::min).max(1e-3) * 0.9;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&PAPER).ok()?;
        match plot.scale {
            Scale::Linear => chart(plot, &root, (0.0..x_max, 0.0..y_max), &|x| plain(*x))?,
            Scale::LogY => chart(plot, &root, (0.0..x_max, (y_min..y_max).log_scale()), &|x| plain(*x))?,
            Scale::Nines => {
                chart(plot, &root, (0.0..x_max, (y_min..y_max).log_scale()), &|x| percentile(*x))?
            }
        }
        root.present().ok()?;
    }
    Some(svg)
}

fn chart<Y>(
    plot: &Plot<'_>,
    root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    (x, y): (std::ops::Range<f64>, Y),
    x_label: &dyn Fn(&f64) -> String,
) -> Option<()>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(root)
        .caption(plot.title, (FONT, 18, &INK))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(74)
        .build_cartesian_2d(x, y)
        .ok()?;
    chart
        .configure_mesh()
        .x_desc(plot.x)
        .y_desc(plot.y)
        .x_label_formatter(x_label)
        .y_label_formatter(&|y| plain(*y))
        .label_style((FONT, 13, &INK))
        .axis_desc_style((FONT, 14, &INK))
        .axis_style(INK)
        .bold_line_style(MESH)
        .light_line_style(PAPER)
        .draw()
        .ok()?;
    for (index, series) in plot.series.iter().enumerate() {
        let style = colour(index).stroke_width(2);
        chart.draw_series(LineSeries::new(series.points.iter().copied(), style).point_size(3)).ok()?;
    }
    Some(())
}

fn plain(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        v if v >= 1e4 => format!("{} k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The percentile that has so many nines.
fn percentile(nines: f64) -> String {
    let share = 100.0 * (1.0 - 10f64.powf(-nines));
    let digits = (nines.ceil() as usize).saturating_sub(2);
    format!("{share:.digits$} %")
}

/// How many nines a quantile has; 0 for 0.
pub(super) fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}
