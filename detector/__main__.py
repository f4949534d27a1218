"""`python -m detector`, which is the command `faster-rcnn`, also for torchrun: `torchrun … -m detector train …`."""

from detector.commands.main import faster_rcnn

if __name__ == "__main__":
    faster_rcnn()
