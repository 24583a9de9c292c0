from __future__ import annotations

from itertools import pairwise

import pytest

from escalade.training.drawing import new_figure, set_title

SOURCE = (
    "positions of 4000 games, from move 1 on, seed 4294967296, half of them casual, half of good players: searches of "
    "16 simulations with the bundle's network, 10% of the moves at random; 861 that taught left out"
)


@pytest.mark.parametrize("columns", [1, 2])
def test_a_title_lies_within_its_figure_however_much_there_is_to_say(columns: int) -> None:
    figure = new_figure((4.5 * columns, 4.5))
    for number in range(columns):
        axes = figure.add_subplot(1, columns, number + 1)
        axes.plot([0, 1], [0, 1])
        set_title(axes, "policy", SOURCE)
    figure.canvas.draw()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    assert figure.axes[0].get_title().replace("\n", " ") == f"policy {SOURCE}"
