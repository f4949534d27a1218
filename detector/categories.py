"""The one map between a dataset's category ids, the network's labels, and names."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

from detector.errors import UserError, shown
from detector.printing import printable

LISTED = 10  # categories in a message
MOST = 50_000  # categories; the largest public sets have about 20,000
LONGEST_NAME = 500  # characters
UNUSED = "N/A "  # the beginning of the name of a label that stands for nothing, as COCO's ids have between others
LARGEST_ID = 2**63 - 1


@dataclass(frozen=True)
class Category:
    """A class of objects as the dataset knows it: its (arbitrary) id and its name."""

    id: int
    name: str


def list_categories(categories: Sequence[Category]) -> str:
    """`1 cat, 2 dog`, as messages name categories; of many only the first."""
    listed = [f"{category.id} {printable(category.name, limit=40)}" for category in categories[:LISTED]]
    more = len(categories) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more else "")


@dataclass(frozen=True)
class CategoryMap:
    """Category ids ↔ labels 1..K ↔ names. Label 0 is the background (Fast R-CNN §2.3).

    Labels follow the order of `categories`, which is ascending id for COCO files. The map is stored in every weights
    file, so detections always carry the ids and names of the data the model was trained on.
    """

    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        if len(self.categories) > MOST:
            raise UserError(f"{len(self.categories)} categories are more than the {MOST} that are possible.")
        counts = Counter(c.id for c in self.categories)
        repeated = sorted(key for key, count in counts.items() if count > 1)
        if repeated:
            raise UserError(f"category ids are not unique: {shown(repeated)}.")
        for category in self.categories:
            _check_category(category)

    def __len__(self) -> int:
        """K, the number of foreground classes."""
        return len(self.categories)

    @property
    def names(self) -> list[str]:
        """K names; the name of label l is `names[l - 1]`."""
        return [c.name for c in self.categories]

    @cached_property
    def _labels(self) -> dict[int, int]:
        return {c.id: label for label, c in enumerate(self.categories, start=1)}

    def label_of(self, category_id: int) -> int:
        """Label 1..K of a dataset category id. Raises UserError for an unknown id."""
        try:
            return self._labels[category_id]
        except KeyError:
            raise UserError(f"category id {category_id} is not among {shown(sorted(self._labels))}.") from None

    def id_of(self, label: int) -> int:
        """The dataset's category id of a label 1..K."""
        return self._category(label).id

    def name_of(self, label: int) -> str:
        """The name of a label 1..K."""
        return self._category(label).name

    def _category(self, label: int) -> Category:
        if not 1 <= label <= len(self.categories):
            raise IndexError(f"label {label} is not in 1..{len(self.categories)}")
        return self.categories[label - 1]

    @classmethod
    def from_coco(cls, categories: Iterable[Mapping[str, Any]]) -> "CategoryMap":
        """Read the `categories` list of a COCO file, ordered by id.

        Raises:
            TypeError, KeyError, ValueError: it is not a list of ids and names. UserError, which is a ValueError,
                where an id is given twice, or an id or a name is beyond all limits.
        """
        return cls(tuple(sorted((_category_of(c) for c in categories), key=lambda c: c.id)))

    @classmethod
    def from_names(cls, names: Sequence[str]) -> "CategoryMap":
        """Make categories 1..K with these names."""
        return cls(tuple(Category(i, name) for i, name in enumerate(names, start=1)))

    def repeated_names(self) -> list[str]:
        """The names that more than one category has, in order; detections cannot be told apart by them."""
        counts = Counter(self.names)
        return sorted(name for name, count in counts.items() if count > 1)

    def to_coco(self) -> list[dict[str, Any]]:
        """The map as the `categories` list of a COCO file."""
        return [{"id": c.id, "name": c.name} for c in self.categories]


def _category_of(values: Mapping[str, Any]) -> Category:
    key, name = values["id"], values["name"]
    if isinstance(key, str) or (isinstance(key, float) and key.is_integer()):
        key = int(key)
    # A number for a name is text that a program has read too cleverly. Whatever else it is may be of any size.
    if isinstance(key, bool) or not isinstance(key, int) or not isinstance(name, (str, int, float)):
        raise TypeError(f"a category with id {shown(key)} and name {shown(name)}")
    return Category(key, str(name))


def _check_category(category: Category) -> None:
    if not -LARGEST_ID <= category.id <= LARGEST_ID:
        raise UserError(f"category id {shown(category.id)} is beyond ±{LARGEST_ID}.")
    if len(category.name) > LONGEST_NAME:
        raise UserError(
            f"the name of category {category.id} has {len(category.name)} characters; shorten it to {LONGEST_NAME}."
        )
    try:
        category.name.encode()
    except UnicodeEncodeError:
        raise UserError(f"the name of category {category.id} is not text: {printable(category.name, 40)}.") from None


def match_categories(of_model: CategoryMap, of_data: CategoryMap) -> CategoryMap:
    """The categories of a model under the ids that the data gives to the same names, in the order of its labels.

    Labels of the model that stand for nothing (`UNUSED`) get ids that the data does not have.

    Raises:
        UserError: the two do not have the same categories.
    """
    if of_model == of_data:
        return of_model
    data_ids = {category.name: category.id for category in of_data.categories}
    unambiguous = len(data_ids) == len(of_data) and len(set(of_model.names)) == len(of_model)
    used = {name for name in of_model.names if name in data_ids or not name.startswith(UNUSED)}
    if not unambiguous or used != set(data_ids):
        raise UserError(
            f"the weights know {len(of_model)} categories ({_missing_first(of_model, of_data)}) and the annotations "
            f"have {len(of_data)} ({_missing_first(of_data, of_model)}); evaluate on data with the same ones."
        )
    free = count(max(data_ids.values()) + 1)
    ids = [data_ids[name] if name in data_ids else next(free) for name in of_model.names]
    return CategoryMap(tuple(Category(i, name) for i, name in zip(ids, of_model.names, strict=True)))


def _missing_first(categories: CategoryMap, other: CategoryMap) -> str:
    """The categories, those that the other lacks first."""
    return list_categories(sorted(categories.categories, key=lambda category: category.name in other.names))
