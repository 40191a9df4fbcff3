//! The curves as one picture: time over flows, and over ports, both axes logarithmic.

use crate::measure::Curve;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

const CHARTS: [(&str, &str); 2] = [("flows", "flows"), ("ports", "filtered ports")];

fn bounds(values: impl Iterator<Item = f64> + Clone) -> std::ops::Range<f64> {
    let low = values.clone().fold(f64::MAX, f64::min);
    let high = values.fold(f64::MIN_POSITIVE, f64::max);
    low * 0.7..high * 1.5
}

/// Draws the curves.
pub(crate) fn draw(path: &Path, curves: &[Curve]) -> Result<()> {
    let area = SVGBackend::new(path, (960, 460)).into_drawing_area();
    area.fill(&WHITE)?;
    for ((chart, label), part) in CHARTS.iter().zip(area.split_evenly((1, 2))) {
        let curves: Vec<&Curve> = curves.iter().filter(|curve| curve.chart == *chart).collect();
        let points = || curves.iter().flat_map(|curve| &curve.points);
        if points().next().is_none() {
            continue;
        }
        let (x, y) = (bounds(points().map(|point| point.0)), bounds(points().map(|point| point.1)));
        let mut plot = ChartBuilder::on(&part)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(x.log_scale(), y.log_scale())?;
        plot.configure_mesh()
            .x_desc(*label)
            .y_desc("seconds")
            .light_line_style(BLACK.mix(0.1))
            .y_label_formatter(&|seconds| format!("{seconds:.0e}"))
            .draw()?;
        for (at, curve) in curves.iter().enumerate() {
            let colour = Palette99::pick(at).to_rgba();
            let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)).point_size(3);
            plot.draw_series(line)?
                .label(curve.name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        plot.configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE.mix(0.8))
            .draw()?;
    }
    area.present().map_err(|error| anyhow!("{error}"))
}
