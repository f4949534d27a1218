"""What makes the embedded set easy or hard. A change here or in the rendering needs a new VERSION."""

VERSION = 3  # sets on disk made by another version are rendered again
SEED = 20150604  # the day Faster R-CNN was posted

SPLITS = {"train": 2000, "val": 200, "test": 100}  # pictures
IMAGE_SIZES = (  # (height, width)
    (256, 320),
    (240, 320),
    (256, 336),
    (224, 304),
    (288, 288),
    (320, 256),
    (320, 240),
)

CATEGORIES = {3: "disc", 7: "box", 8: "triangle", 20: "star", 41: "ring", 90: "cross"}  # id: name; gaps on purpose

EMPTY_PICTURES = 0.04  # share of pictures without objects
MAX_OBJECTS = 9  # tried per picture; hidden ones are left out
MAX_DISTRACTORS = 1  # unlabelled look-alikes per picture
MAX_CLUTTER = 16  # thin bars and soft blobs of the background
SCALES = ((0.05, 18, 32), (0.40, 48, 96), (0.55, 96, 200))  # (share, smallest, largest) diameter in pixels
MIN_ASPECT = 0.8  # of the outline, before rotation
MIN_VISIBLE = 0.7  # share of the outline inside the picture and in front; else neither drawn nor annotated
MIN_EDGE = 8  # pixels of the visible box's shorter edge
HOME_COLOR = 0.95  # how often an object wears its class's colours instead of any
HOME_TEXTURE = 0.9  # likewise its texture
MIN_CONTRAST = 90  # sum over RGB of the difference between an object's first colour and what it covers
BACKGROUND_CONTRAST = 0.55  # of the smooth noise, 0 to 1
BACKGROUND_COLOR = 0.5  # of that noise, 0 (grey) to 1
BLURRED = 0.2  # share of pictures
NOISE = 7.0  # greatest standard deviation of the pixel noise, grey levels
