"""The one map between a dataset's category ids, the network's labels, and names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from detector.errors import UserError, one_line

LISTED = 10  # categories in a message


@dataclass(frozen=True)
class Category:
    """A class of objects as the dataset knows it: its (arbitrary) id and its name."""

    id: int
    name: str


def list_categories(categories: Sequence[Category]) -> str:
    """`1 cat, 2 dog`, as messages name categories; of many only the first."""
    listed = [f"{category.id} {one_line(category.name, limit=40)}" for category in categories[:LISTED]]
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
        ids = [c.id for c in self.categories]
        if len(set(ids)) != len(ids):
            raise UserError(f"category ids are not unique: {sorted(i for i in set(ids) if ids.count(i) > 1)}.")

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
            raise UserError(f"category id {category_id} is not among {sorted(self._labels)}.") from None

    def id_of(self, label: int) -> int:
        """Dataset category id of a label 1..K."""
        return self._category(label).id

    def name_of(self, label: int) -> str:
        """Name of a label 1..K."""
        return self._category(label).name

    def _category(self, label: int) -> Category:
        if not 1 <= label <= len(self.categories):
            raise IndexError(f"label {label} is not in 1..{len(self.categories)}")
        return self.categories[label - 1]

    @classmethod
    def from_coco(cls, categories: Iterable[Mapping[str, Any]]) -> "CategoryMap":
        """From the `categories` list of a COCO file, ordered by id."""
        ordered = sorted(categories, key=lambda c: int(c["id"]))
        return cls(tuple(Category(int(c["id"]), str(c["name"])) for c in ordered))

    @classmethod
    def from_names(cls, names: Sequence[str]) -> "CategoryMap":
        """Categories 1..K with these names."""
        return cls(tuple(Category(i, name) for i, name in enumerate(names, start=1)))

    def to_coco(self) -> list[dict[str, Any]]:
        """As the `categories` list of a COCO file."""
        return [{"id": c.id, "name": c.name} for c in self.categories]
