"""Merging what windows show: which detections are one object, and what of them is kept."""

import torch

from detector.datasets.pictures.windows import Window
from detector.inference.tile_merging import WindowDetections, merge

PICTURE = (100, 180)
LEFT, RIGHT, WHOLE = Window(0, 0, 100, 100), Window(0, 80, 100, 100), Window(0, 0, 100, 180)

Row = tuple[tuple[float, float, float, float], float, int]  # box, score, label


def part(window: Window, *rows: Row) -> WindowDetections:
    boxes, scores, labels = ([row[column] for row in rows] for column in range(3))
    return WindowDetections(
        window,
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
    )


def merged(*parts: WindowDetections) -> list[Row]:
    boxes, scores, labels = merge(parts, PICTURE, 0.5)
    rounded = [round(score, 4) for score in scores.tolist()]
    return list(zip(map(tuple, boxes.tolist()), rounded, labels.tolist(), strict=True))


def test_duplicates_keep_the_surer_box_and_other_classes_stay() -> None:
    first, second = ((82.0, 10, 95, 30), 0.7, 1), ((83.0, 10, 95, 31), 0.8, 1)
    assert merged(part(LEFT, first), part(RIGHT, second)) == [second]
    other = (second[0], 0.8, 2)
    assert merged(part(LEFT, first), part(RIGHT, other)) == [other, first]


def test_a_whole_box_takes_its_part_and_the_higher_score() -> None:
    cut, whole = ((90.0, 10, 100, 30), 0.9, 1), ((90.0, 10, 115, 30), 0.6, 1)
    assert merged(part(LEFT, cut), part(RIGHT, whole)) == [(whole[0], 0.9, 1)]


def test_two_parts_become_one_box() -> None:
    left, right = ((40.0, 10, 100, 30), 0.9, 1), ((80.0, 11, 140, 30), 0.8, 1)
    assert merged(part(LEFT, left), part(RIGHT, right)) == [((40, 10, 140, 30), 0.9, 1)]


def test_an_unsure_part_is_taken_but_does_not_move_the_box() -> None:
    left, right = ((40.0, 10, 100, 30), 0.9, 1), ((80.0, 11, 140, 30), 0.1, 1)
    assert merged(part(LEFT, left), part(RIGHT, right)) == [left]


def test_a_small_whole_box_inside_a_part_does_not_take_it() -> None:
    small, large = ((85.0, 15, 95, 25), 0.9, 1), ((20.0, 5, 100, 60), 0.8, 1)
    assert merged(part(LEFT, large), part(RIGHT, small)) == [small, large]


def test_neighbours_of_one_window_are_two_objects() -> None:
    first, second = ((80.0, 10, 92, 30), 0.9, 1), ((86.0, 10, 100, 30), 0.8, 1)
    assert merged(part(LEFT, first, second)) == [first, second]


def test_what_the_whole_picture_alone_shows_is_kept_and_borders_of_the_picture_cut_nothing() -> None:
    large, edge = ((0.0, 0, 180, 100), 0.4, 1), ((0.0, 0, 20, 20), 0.9, 1)
    assert merged(part(WHOLE, large), part(LEFT, edge), part(RIGHT)) == [edge, large]


def test_the_whole_picture_has_no_say_on_what_a_tile_shows_whole() -> None:
    inside, across = ((20.0, 20, 60, 60), 0.9, 1), ((60.0, 20, 120, 60), 0.4, 1)
    assert merged(part(WHOLE, inside, across), part(LEFT), part(RIGHT)) == [across]
    better = ((24.0, 20, 64, 60), 0.5, 1)  # as the tile sees it
    assert merged(part(WHOLE, inside), part(LEFT, better), part(RIGHT)) == [better]


def test_the_whole_pictures_box_comes_after_those_that_tiles_show_whole() -> None:
    tile, coarse = ((84.0, 20, 120, 60), 0.5, 1), ((60.0, 20, 125, 75), 0.9, 1)  # IoU 0.4
    assert merged(part(WHOLE, coarse), part(LEFT), part(RIGHT, tile)) == [(tile[0], 0.9, 1)]


def test_a_surer_part_is_the_whole_pictures_box_only_where_the_tile_saw_just_that_part() -> None:
    unsure = ((50.0, 10, 150, 90), 0.1, 1)
    another = ((60.0, 60, 100, 90), 0.9, 1)  # lies in it and is cut, but the tile saw nothing of the rest
    assert merged(part(WHOLE, unsure), part(LEFT, another), part(RIGHT)) == [another, unsure]
    its_part = ((52.0, 10, 100, 88), 0.9, 1)
    assert merged(part(WHOLE, unsure), part(LEFT, its_part), part(RIGHT)) == [(unsure[0], 0.9, 1)]
    less_sure = (another[0], 0.05, 1)
    assert merged(part(WHOLE, unsure), part(LEFT, less_sure), part(RIGHT)) == [unsure]


def test_nothing_gives_nothing() -> None:
    assert merged(part(WHOLE), part(LEFT), part(RIGHT)) == []
