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
    """Of tiles, and of the whole picture where it is given."""
    whole = () if parts[0].window == WHOLE else (part(WHOLE),)
    boxes, scores, labels = merge([*whole, *parts], PICTURE, 0.5)
    rounded = [tuple(round(value, 4) for value in box) for box in boxes.tolist()]
    return list(zip(rounded, [round(score, 4) for score in scores.tolist()], labels.tolist(), strict=True))


def test_of_duplicates_the_mean_is_kept_and_other_classes_stay() -> None:
    first, second = ((83.0, 10, 95, 30), 0.6, 1), ((84.0, 10, 95, 31), 0.8, 1)
    mean = (round(58.5 / 0.7, 4), 10, 95, round(21.4 / 0.7, 4))  # (0.6 first + 0.8 second) / 1.4
    assert merged(part(LEFT, first), part(RIGHT, second)) == [(mean, 0.7, 1)]
    other = (second[0], 0.8, 2)
    assert merged(part(LEFT, first), part(RIGHT, other)) == [(other[0], 0.4, 2), (first[0], 0.3, 1)]


def test_a_tile_that_shows_an_object_whole_and_finds_nothing_says_zero() -> None:
    both_see, one_sees = (85.0, 10, 95, 30), (60.0, 10, 79, 30)
    assert merged(part(LEFT, (both_see, 0.9, 1)), part(RIGHT)) == [(both_see, 0.45, 1)]
    assert merged(part(LEFT, (one_sees, 0.9, 1)), part(RIGHT)) == [(one_sees, 0.9, 1)]
    at_its_border = (81.0, 10, 95, 30)  # which the right tile cannot tell from a cut object
    assert merged(part(LEFT, (at_its_border, 0.9, 1)), part(RIGHT)) == [(at_its_border, 0.9, 1)]


def test_a_part_says_nothing_about_an_object_that_a_tile_shows_whole() -> None:
    cut, whole = ((90.0, 10, 100, 30), 0.9, 1), ((90.0, 10, 115, 30), 0.6, 1)
    assert merged(part(LEFT, cut), part(RIGHT, whole)) == [whole]


def test_two_parts_become_one_box() -> None:
    left, right = ((40.0, 10, 100, 30), 0.9, 1), ((80.0, 11, 140, 30), 0.8, 1)
    assert merged(part(LEFT, left), part(RIGHT, right)) == [((40, 10, 140, 30), 0.85, 1)]  # each saw 0.6 of it


def test_an_unsure_part_is_taken_but_does_not_move_the_box() -> None:
    left, right = ((40.0, 10, 100, 30), 0.9, 1), ((80.0, 11, 140, 30), 0.1, 1)
    score = round((0.9 + 0.1 / 3) / (1 + 1 / 3), 4)  # the right tile saw a third of the box
    assert merged(part(LEFT, left), part(RIGHT, right)) == [(left[0], score, 1)]


def test_a_part_that_another_tile_saw_half_of_and_does_not_know_is_less_sure() -> None:
    half, less = (60.0, 10, 100, 30), (40.0, 10, 100, 30)
    assert merged(part(LEFT, (half, 0.9, 1)), part(RIGHT)) == [(half, 0.6, 1)]
    assert merged(part(LEFT, (less, 0.9, 1)), part(RIGHT)) == [(less, 0.9, 1)]


def test_how_near_to_a_border_a_box_counts_as_cut_depends_on_its_size() -> None:
    large, small = ((10.0, 10, 96, 60), 0.8, 1), ((66.0, 10, 96, 60), 0.8, 1)  # both end 4 pixels before the border
    rest = ((80.0, 10, 130, 60), 0.8, 1)
    assert [box for box, _, _ in merged(part(LEFT, large), part(RIGHT, rest))] == [(10, 10, 130, 60)]
    assert sorted(box for box, _, _ in merged(part(LEFT, small), part(RIGHT, rest))) == [small[0], rest[0]]


def test_a_small_whole_box_inside_a_part_does_not_take_it() -> None:
    small, large = ((85.0, 15, 110, 25), 0.9, 1), ((20.0, 5, 100, 60), 0.8, 1)
    assert merged(part(LEFT, large), part(RIGHT, small)) == [small, large]


def test_neighbours_of_one_window_are_two_objects() -> None:
    first, second = ((60.0, 10, 72, 30), 0.9, 1), ((66.0, 10, 78, 30), 0.8, 1)
    assert merged(part(LEFT, first, second), part(RIGHT)) == [first, second]


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
    assert merged(part(WHOLE, coarse), part(LEFT), part(RIGHT, tile)) == [tile]


def test_a_surer_part_is_the_whole_pictures_box_only_where_the_tile_saw_just_that_part() -> None:
    unsure = ((50.0, 10, 150, 90), 0.1, 1)
    another = ((55.0, 60, 100, 90), 0.9, 1)  # lies in it and is cut, but the tile saw nothing of the rest
    assert merged(part(WHOLE, unsure), part(LEFT, another), part(RIGHT)) == [another, unsure]
    its_part = ((52.0, 10, 100, 88), 0.9, 1)  # of which the tile saw half
    mean = round((0.1 + 0.5 * 0.9) / 1.5, 4)
    assert merged(part(WHOLE, unsure), part(LEFT, its_part), part(RIGHT)) == [(unsure[0], mean, 1)]
    less_sure = (another[0], 0.05, 1)
    mean = round((0.1 + 0.5 * 0.05) / 1.5, 4)
    assert merged(part(WHOLE, unsure), part(LEFT, less_sure), part(RIGHT)) == [(unsure[0], mean, 1)]


def test_parts_that_make_up_the_whole_pictures_box_give_theirs_which_is_finer() -> None:
    coarse = ((38.0, 8, 142, 33), 0.6, 1)
    left, right = ((40.0, 10, 100, 30), 0.9, 1), ((80.0, 11, 140, 30), 0.8, 1)
    mean = round((0.6 + 0.6 * 0.9 + 0.6 * 0.8) / 2.2, 4)
    assert merged(part(WHOLE, coarse), part(LEFT, left), part(RIGHT, right)) == [((40, 10, 140, 30), mean, 1)]


def test_nothing_gives_nothing() -> None:
    assert merged(part(WHOLE), part(LEFT), part(RIGHT)) == []
