"""The report's drawings: labels that do not run into each other, curves that stay within the frame, none left alone."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pipeline.comparison.page import charts
from pipeline.comparison.page.report import abreast


@pytest.mark.parametrize(
    "span", [(26.5, 360), (3, 4), (1.02, 1.07), (0.04, 27), (79_510, 15_245_130), (5, 5), (1e-3, 9e8)]
)
def test_labels_of_an_axis_of_factors_do_not_overlap(span):
    series = {"a": {span[0]: 0.9, span[1]: 0.95}}
    figure = charts.curves(series, ["a"], x="seconds", y="accuracy", share=True, log=True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axis,) = figure.axes
    low, high = axis.get_xlim()
    labels = axis.get_xticklabels(which="both")
    boxes = [
        label.get_window_extent() for label in labels if label.get_text() and low <= label.get_position()[0] <= high
    ]
    assert boxes and all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("accuracies", [(0.1, 0.99, 1.0), (1.0, 1.0), (0.0, 0.5), (0.9, 0.9999, 1.0), (0.97, 0.98)])
def test_curves_stay_within_the_frame(accuracies):
    figure = charts.curves(
        {"a": dict(enumerate(accuracies))}, ["a"], x="epoch", y="accuracy", share=True, log_errors=True
    )
    FigureCanvasAgg(figure).draw()
    (axis,) = figure.axes
    places = axis.transAxes.inverted().transform(axis.transData.transform(np.array(list(enumerate(accuracies)))))
    assert (places >= -1e-6).all() and (places[:, 1] < 1).all()
    shown = [label.get_text() for label in axis.get_yticklabels()]
    assert ("100 %" in shown) == (1.0 in accuracies)


@pytest.mark.parametrize("small", [True, False])
def test_no_drawing_stands_alone_in_the_last_row(small):
    for count in range(2, 13):
        assert count % abreast(count, small) != 1 or (count % 2 and count > 3), count
