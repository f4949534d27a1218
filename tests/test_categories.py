import pytest

from detector.categories import Category, CategoryMap, list_categories, match_categories
from detector.errors import UserError

# As in COCO: ids with gaps, and not in order.
COCO = [
    {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
    {"id": 3, "name": "car"},
    {"id": 17, "name": "cat"},
]


def test_labels_follow_ascending_ids_and_start_at_one() -> None:
    categories = CategoryMap.from_coco(COCO)
    assert [categories.label_of(i) for i in (3, 17, 90)] == [1, 2, 3]
    assert categories.names == ["car", "cat", "toothbrush"]
    assert len(categories) == 3


def test_no_category_has_the_label_of_the_background() -> None:
    categories = CategoryMap.from_coco(COCO)
    for outside in (0, -1, 4):
        with pytest.raises(IndexError, match=rf"label {outside} is not in 1\.\.3"):
            categories.name_of(outside)


def test_ids_labels_and_names_go_both_ways() -> None:
    categories = CategoryMap.from_coco(COCO)
    for category in categories.categories:
        label = categories.label_of(category.id)
        assert categories.id_of(label) == category.id
        assert categories.name_of(label) == category.name == categories.names[label - 1]


def test_to_coco_and_back() -> None:
    categories = CategoryMap.from_coco(COCO)
    assert CategoryMap.from_coco(categories.to_coco()) == categories


def test_from_names_numbers_from_one() -> None:
    assert CategoryMap.from_names(["a", "b"]).categories == (Category(1, "a"), Category(2, "b"))
    assert len(CategoryMap.from_names([])) == 0


def test_an_unknown_id_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"category id 4 is not among \[3, 17, 90\]"):
        CategoryMap.from_coco(COCO).label_of(4)


def test_an_id_given_twice_is_named() -> None:
    with pytest.raises(UserError, match=r"category ids are not unique: \[3\]"):
        CategoryMap.from_coco([{"id": 3, "name": "car"}, {"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}])


def test_messages_name_categories_and_of_many_the_first() -> None:
    assert list_categories(CategoryMap.from_coco(COCO).categories[:2]) == "3 car, 17 cat"
    many = CategoryMap.from_names([f"c{i}" for i in range(80)])
    assert list_categories(many.categories).endswith(", 10 c9 and 70 more")
    assert len(list_categories([Category(1, "long " * 1000)])) < 50
    assert list_categories([]) == ""


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 7, "name": "x" * 10_000}], r"the name of category 7 has 10000 characters; shorten it to 500\."),
        ([{"id": 7, "name": "\ud800"}], r"the name of category 7 is not text: \\ud800\."),
        ([{"id": 2**63, "name": "a"}], r"category id 9223372036854775808 is beyond"),
        ([{"id": 10**4000, "name": "a"}], r"category id .* is beyond"),
        ([{"id": i, "name": "a"} for i in range(50_001)], r"50001 categories are more than the 50000"),
    ],
)
def test_categories_are_bounded(categories: list[dict[str, object]], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        CategoryMap.from_coco(categories)
    assert len(str(caught.value)) < 300


def test_what_is_no_id_or_name_is_not_made_one() -> None:
    bomb: list[object] = []
    for _ in range(40):
        bomb = [bomb, bomb]  # writing it out would take 2⁴⁰ steps
    for values in (
        {"id": True, "name": "a"},
        {"id": 1.5, "name": "a"},
        {"id": 1, "name": bomb},
        {"id": bomb, "name": ""},
    ):
        with pytest.raises(TypeError, match="a category with id"):
            CategoryMap.from_coco([values])
    assert CategoryMap.from_coco([{"id": "3", "name": 5}]).categories == (Category(3, "5"),)


def test_names_given_twice_are_found() -> None:
    assert CategoryMap.from_names(["a", "b", "a", "c", "b"]).repeated_names() == ["a", "b"]
    assert CategoryMap.from_coco(COCO).repeated_names() == []


def test_names_in_a_list_cannot_command_a_terminal() -> None:
    assert list_categories([Category(1, "a\x1b[2J\nb")]) == r"1 a\x1b[2J\nb"


def test_categories_match_by_name_and_take_the_ids_of_the_data() -> None:
    of_model = CategoryMap.from_names(["cat", "dog"])
    of_data = CategoryMap.from_coco([{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}])
    matched = match_categories(of_model, of_data)
    assert [(matched.id_of(label), matched.name_of(label)) for label in (1, 2)] == [(7, "cat"), (3, "dog")]
    assert match_categories(of_model, of_model) is of_model


@pytest.mark.parametrize("names", [["cat"], ["cat", "dog", "cow"], ["cat", "cow"], ["dog", "dog"]])
def test_other_categories_are_an_error_that_lists_both_sets(names: list[str]) -> None:
    listed = ", ".join(rf"\d {name}" for name in sorted(names, key=lambda name: name in ("cat", "dog")))
    with pytest.raises(UserError, match=rf"know 2 categories \(.*1 cat.*\) and .* have {len(names)} \({listed}\)"):
        match_categories(CategoryMap.from_names(["cat", "dog"]), CategoryMap.from_names(names))


def test_labels_that_stand_for_nothing_are_in_no_data() -> None:
    of_model = CategoryMap(tuple(Category(i, name) for i, name in ((1, "cat"), (2, "N/A 2"), (3, "dog"))))
    of_data = CategoryMap((Category(2, "dog"), Category(7, "cat")))
    matched = match_categories(of_model, of_data)
    assert [category.id for category in matched.categories] == [7, 8, 2]
    assert matched.names == of_model.names
