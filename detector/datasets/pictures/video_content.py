"""Whether a file holds a video, by how it begins: its name may not say."""

from pathlib import Path

HEAD = 512  # bytes that are looked at

_BEGINNINGS = (
    b"\x1aE\xdf\xa3",  # Matroska and WebM
    b"FLV\x01",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF: WMV
    b"\0\0\x01\xba",  # MPEG program stream
    b"\0\0\x01\xb3",  # MPEG-1 and -2 without a container
    b"OggS",
    b"YUV4MPEG2 ",
)
# Of what begins as MP4 does, these are pictures: HEIF, AVIF, and the raw ones of Canon.
_BRANDS_OF_PICTURES = (b"avif", b"avis", b"mif1", b"msf1", b"hei", b"hev", b"crx ")
_QUICKTIME = (b"moov", b"mdat", b"wide")  # what its oldest files begin with
_PACKETS = ((0, 188), (4, 192))  # of MPEG transport streams: the place of the first, and their length


def begins_as_video(head: bytes) -> bool:
    """Whether a file that begins with these bytes, `HEAD` of them where it has so many, is a video."""
    if head[4:8] == b"ftyp":
        return not head[8:12].startswith(_BRANDS_OF_PICTURES)
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    if head[4:8] in _QUICKTIME and head[:2] in (b"\0\0", b"\0\x01"):
        return True
    stream = any(head[first::length][:3] == b"GGG" for first, length in _PACKETS)
    return stream or head.startswith(_BEGINNINGS)


def holds_video(path: Path) -> bool:
    """Whether a file is a video by its content; not where there is no such file, or it cannot be read."""
    try:
        if not path.is_file():  # a pipe or device is not opened, which may block for ever
            return False
        with open(path, "rb") as file:
            return begins_as_video(file.read(HEAD))
    except (OSError, ValueError):  # ValueError: a null character in the path
        return False
