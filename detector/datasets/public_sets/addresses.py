"""The data sets that can be fetched by name.

The authors of COCO publish no checksums; those here are the ones that its users have published alike for years. Those
of Pascal VOC are the ones that torchvision's `VOCDetection` checks. BCCD is fetched as a snapshot of its
repository, which the host packs anew at will, so its files are checked and not the archive.
"""

from dataclasses import dataclass

COCO = "http://images.cocodataset.org"
VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"
BCCD_COMMIT = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"


@dataclass(frozen=True)
class Archive:
    """One file to fetch and unpack.

    url: where the authors serve it. size: bytes, as served when this was written; for the question whether there is
    room. unpacked: bytes of its contents, about. md5: of the archive, or None where its host repacks it. below: only
    what lies under this folder of the archive is unpacked, without that prefix. tree: SHA-256 over the unpacked files
    (`obtain.digest_of_tree`), where the archive itself has no fixed checksum.
    """

    url: str
    size: int
    unpacked: int
    md5: str | None = None
    below: str = ""
    tree: str | None = None

    @property
    def name(self) -> str:
        """The archive's file name."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class PublicSet:
    """A data set. folder: where it goes below `data/`. terms: of its use, in a few words. then: what to type next."""

    folder: str
    archives: tuple[Archive, ...]
    what: str
    terms: str
    then: str


COCO_ANNOTATIONS = Archive(
    f"{COCO}/annotations/annotations_trainval2017.zip", 252_907_541, 820_000_000, "f4bbac642086de4f52a3fdda2de5fa2c"
)
COCO_VAL = Archive(f"{COCO}/zips/val2017.zip", 815_585_330, 830_000_000, "442b8da7639aecaf257c1dceb8ba8c80")
COCO_TRAIN = Archive(f"{COCO}/zips/train2017.zip", 19_336_861_798, 19_500_000_000, "cced6f7f71b7629ddf16f17bbcfab6b2")
COCO_TERMS = "annotations CC BY 4.0; each picture has a licence of its own, which the JSON names"


def _train_on_voc(year: str, train: str, val: str) -> str:
    folder = f"data/voc/VOCdevkit/VOC{year}"
    splits = " ".join(
        f"data.{split}_annotations={folder}/ImageSets/Main/{names}.txt data.{split}_images={folder}/JPEGImages"
        for split, names in (("train", train), ("val", val))
    )
    return f"faster-rcnn train --config r50c4_coco_1x data.format=voc {splits}"


SETS: dict[str, PublicSet] = {
    "coco2017": PublicSet(
        folder="coco",
        archives=(COCO_ANNOTATIONS, COCO_VAL, COCO_TRAIN),
        what="COCO 2017: 118,287 pictures to train on and 5,000 to validate on, 80 classes",
        terms=COCO_TERMS,
        then="faster-rcnn train --config r101c4_coco_3x",
    ),
    "coco2017-val": PublicSet(
        folder="coco",
        archives=(COCO_ANNOTATIONS, COCO_VAL),
        what="the 5,000 pictures of COCO 2017 that published models are scored on",
        terms=COCO_TERMS,
        then="faster-rcnn evaluate --weights R101-C4-3x --annotations data/coco/annotations/instances_val2017.json "
        "--images data/coco/val2017",
    ),
    "voc2007": PublicSet(
        folder="voc",
        archives=(
            Archive(
                f"{VOC}/voc2007/VOCtrainval_06-Nov-2007.tar",
                460_032_000,
                470_000_000,
                "c52e279531787c972589f7e41ab4ae64",
            ),
            Archive(
                f"{VOC}/voc2007/VOCtest_06-Nov-2007.tar", 451_020_800, 460_000_000, "b6e924de25625d8de591ea690078ad9f"
            ),
        ),
        what="Pascal VOC 2007: 5,011 pictures to train on and 4,952 to test on, 20 classes",
        terms="pictures from flickr, under flickr's terms of use",
        then=_train_on_voc("2007", "trainval", "test"),
    ),
    "voc2012": PublicSet(
        folder="voc",
        archives=(
            Archive(
                f"{VOC}/voc2012/VOCtrainval_11-May-2012.tar",
                1_999_639_040,
                2_020_000_000,
                "6cd6e144f989b92b3379bac3b3de84fd",
            ),
        ),
        what="Pascal VOC 2012: 11,540 pictures with boxes, 20 classes",
        terms="pictures from flickr, under flickr's terms of use",
        then=_train_on_voc("2012", "train", "val"),
    ),
    "bccd": PublicSet(
        folder="bccd",
        archives=(
            Archive(
                f"https://github.com/Shenggan/BCCD_Dataset/archive/{BCCD_COMMIT}.zip",
                8_000_000,
                8_800_938,
                below=f"BCCD_Dataset-{BCCD_COMMIT}/BCCD/",
                tree="debd2d76b13c300a3999f96a08cbe9ada5f231c3f882f9877a65a01a695872d1",
            ),
        ),
        what="BCCD: 364 pictures of blood cells, 3 classes",
        terms="MIT",
        then="faster-rcnn train --config r50c4_bccd",
    ),
}
