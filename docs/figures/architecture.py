"""Draw `docs/architecture.svg`: the model's parts in the order in which an image passes through them.

python docs/figures/architecture.py
"""

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

OUTPUT = Path(__file__).resolve().parent.parent / "architecture.svg"
WIDTH, HEIGHT = 1040, 410
PAPER, INK, FAINT, ARROW = "#ffffff", "#1f2430", "#69707d", "#8a93a3"
SHARED, PROPOSING, PER_REGION, DATA = "#dbe8fb", "#fde9cf", "#dff2e1", "#f1f2f4"


@dataclass(frozen=True)
class Part:
    """A rectangle with a title, lines of text, and the file in which its code is; x, y is its upper left corner."""

    x: int
    y: int
    width: int
    height: int
    fill: str
    title: str
    lines: tuple[str, ...] = ()
    file: str = ""

    @property
    def left(self) -> tuple[int, int]:
        return self.x, self.y + self.height // 2

    @property
    def right(self) -> tuple[int, int]:
        return self.x + self.width, self.y + self.height // 2

    @property
    def top(self) -> tuple[int, int]:
        return self.x + self.width // 2, self.y

    @property
    def bottom(self) -> tuple[int, int]:
        return self.x + self.width // 2, self.y + self.height

    def svg(self) -> str:
        middle = self.x + self.width / 2
        rows = [
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="8" fill="{self.fill}"/>'
        ]
        texts = [(self.title, 15, INK, "600"), *((line, 12, INK, "400") for line in self.lines)]
        if self.file:
            texts.append((self.file, 11, FAINT, "400"))
        y = self.y + (self.height - 18 * len(texts)) / 2 + 14
        for text, size, color, weight in texts:
            rows.append(
                f'<text x="{middle}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" fill="{color}" '
                f'text-anchor="middle">{escape(text)}</text>'
            )
            y += 18
        return "\n".join(rows)


def arrow(*points: tuple[int, int], label: str = "", below: bool = False) -> str:
    path = " ".join(f"{'M' if i == 0 else 'L'}{x} {y}" for i, (x, y) in enumerate(points))
    drawn = f'<path d="{path}" fill="none" stroke="{ARROW}" stroke-width="2" marker-end="url(#head)"/>'
    if label:
        (x0, y0), (x1, y1) = points[-2:]
        x, y = (x0 + x1) / 2, (y0 + y1) / 2 + (16 if below else -8)
        drawn += (
            f'\n<text x="{x:.0f}" y="{y:.0f}" font-size="11" fill="{FAINT}" text-anchor="middle">{escape(label)}</text>'
        )
    return drawn


def figure() -> str:
    image = Part(20, 60, 110, 90, DATA, "image", ("H × W × 3",))
    shared = Part(
        190, 45, 190, 120, SHARED, "conv1 … conv4_x", ("ResNet-101: 91 layers", "stride 16, shared"), "model/resnet.py"
    )
    features = Part(430, 60, 160, 90, DATA, "feature map", ("H/16 × W/16 × 1024",))
    rpn = Part(
        415,
        235,
        190,
        110,
        PROPOSING,
        "RPN",
        ("3×3, two 1×1 siblings", "objectness and deltas"),
        "model/rpn.py · anchors.py",
    )
    proposals = Part(
        655, 235, 150, 110, PROPOSING, "proposals", ("top 6000, NMS 0.7,", "best 1000"), "model/proposals.py"
    )
    pooling = Part(
        655, 45, 150, 120, PER_REGION, "RoIAlign", ("14 × 14 × 1024", "for every region"), "model/roi_pooling.py"
    )
    head = Part(870, 45, 150, 120, PER_REGION, "conv5_x", ("9 layers, average", "pooling: 2048"), "model/roi_head.py")
    select = Part(
        870, 235, 150, 110, PER_REGION, "classes, boxes", ("score > 0.05,", "NMS 0.5 a class"), "model/postprocess.py"
    )
    parts = [image, shared, features, rpn, proposals, pooling, head, select]
    arrows = [
        arrow(image.right, shared.left),
        arrow(shared.right, features.left),
        arrow(features.bottom, rpn.top),
        arrow(rpn.right, proposals.left),
        arrow(proposals.top, pooling.bottom, label=""),
        arrow(features.right, pooling.left),
        arrow(pooling.right, head.left),
        arrow(head.bottom, select.top),
    ]
    legend = [
        (20, SHARED, "once for the image"),
        (190, PROPOSING, "where to look"),
        (330, PER_REGION, "once for every region"),
    ]
    key = [
        f'<rect x="{x}" y="374" width="16" height="16" rx="3" fill="{fill}"/>'
        f'<text x="{x + 24}" y="387" font-size="12" fill="{FAINT}">{text}</text>'
        for x, fill, text in legend
    ]
    marker = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{ARROW}"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif">',
            "<title>Faster R-CNN with a ResNet-C4 backbone</title>",
            marker,
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="{PAPER}"/>',
            *arrows,
            *(part.svg() for part in parts),
            *key,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    OUTPUT.write_text(figure(), encoding="utf-8")
    print(f"wrote {OUTPUT}")
