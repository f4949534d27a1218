"""detectron2's settings by what becomes of them: the same here, of one value only, of one kind of model, or ignored."""

from collections.abc import Mapping
from typing import Any, Literal

# One meaning, one unit, one type: detectron2's key → ours.
SAME: Mapping[str, str] = {
    "DATALOADER.ASPECT_RATIO_GROUPING": "data.aspect_grouping",
    "DATALOADER.NUM_WORKERS": "data.num_workers",
    "INPUT.MAX_SIZE_TEST": "input.max_size_test",
    "INPUT.MAX_SIZE_TRAIN": "input.max_size_train",
    "INPUT.MIN_SIZE_TEST": "input.min_size_test",
    "INPUT.MIN_SIZE_TRAIN": "input.min_size_train",
    "MODEL.ANCHOR_GENERATOR.OFFSET": "model.rpn.anchor_offset",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": "model.rpn.min_size",
    "MODEL.RESNETS.DEPTH": "model.backbone.depth",
    "MODEL.RESNETS.NUM_GROUPS": "model.backbone.groups",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "model.backbone.stem_channels",
    "MODEL.RESNETS.STRIDE_IN_1X1": "model.backbone.stride_in_1x1",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": "model.roi.delta_weights",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": "model.roi.pooled_size",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": "model.roi.sampling_ratio",
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": "model.roi.smooth_l1_beta",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": "model.roi.batch_size_per_image",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": "model.detection.nms_threshold",
    "MODEL.ROI_HEADS.NUM_CLASSES": "model.num_classes",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": "model.roi.positive_fraction",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "model.detection.score_threshold",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": "model.rpn.batch_size_per_image",
    "MODEL.RPN.BBOX_REG_WEIGHTS": "model.rpn.delta_weights",
    "MODEL.RPN.NMS_THRESH": "model.rpn.nms_threshold",
    "MODEL.RPN.POSITIVE_FRACTION": "model.rpn.positive_fraction",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "model.rpn.post_nms_top_n_test",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": "model.rpn.post_nms_top_n_train",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": "model.rpn.pre_nms_top_n_test",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": "model.rpn.pre_nms_top_n_train",
    "MODEL.RPN.SMOOTH_L1_BETA": "model.rpn.smooth_l1_beta",
    "SOLVER.BASE_LR": "train.learning_rate",
    "SOLVER.CHECKPOINT_PERIOD": "train.save_every",
    "SOLVER.GAMMA": "train.gamma",
    "SOLVER.IMS_PER_BATCH": "train.batch_size",
    "SOLVER.MAX_ITER": "train.iterations",
    "SOLVER.MOMENTUM": "train.momentum",
    "SOLVER.STEPS": "train.milestones",
    "SOLVER.WARMUP_FACTOR": "train.warmup_factor",
    "SOLVER.WARMUP_ITERS": "train.warmup_iterations",
    "SOLVER.WEIGHT_DECAY": "train.weight_decay",
    "SOLVER.WEIGHT_DECAY_NORM": "train.norm_weight_decay",
    "TEST.DETECTIONS_PER_IMAGE": "model.detection.max_per_image",
    "TEST.EVAL_PERIOD": "train.evaluate_every",
}

# Of test-time augmentation, where TEST.AUG.ENABLED asks for it; detectron2's defaults are those of our form.
AUGMENTATION: Mapping[str, str] = {
    "TEST.AUG.FLIP": "model.detection.augment.horizontal_flip",
    "TEST.AUG.MAX_SIZE": "model.detection.augment.max_size",
    "TEST.AUG.MIN_SIZES": "model.detection.augment.sizes",
}

CLASS_AGNOSTIC = "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"  # one box for all classes

# Settings of which only these values exist here; detectron2's default is the first.
ONLY: Mapping[str, tuple[Any, ...]] = {
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler",),
    "INPUT.CROP.ENABLED": (False,),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice",),
    "MODEL.ANCHOR_GENERATOR.NAME": ("DefaultAnchorGenerator",),
    "MODEL.LOAD_PROPOSALS": (False,),
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN",),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN",),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": ([False, False, False, False],),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": ("smooth_l1",),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": (1.0,),
    CLASS_AGNOSTIC: (False, True),
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": (False,),
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": (False,),
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": (False,),
    "MODEL.ROI_HEADS.IGNORE_THRESHOLD": (-1.0,),  # of old configs
    "MODEL.ROI_HEADS.IOU_LABELS": ([0, 1],),
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": (True,),
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": ("smooth_l1",),
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": (1.0,),
    "MODEL.RPN.BOUNDARY_THRESH": (-1,),
    "MODEL.RPN.HEAD_NAME": ("StandardRPNHead",),
    "MODEL.RPN.IGNORE_THRESHOLD": (-1.0,),  # of old configs
    "MODEL.RPN.IOU_LABELS": ([0, -1, 1],),
    "MODEL.RPN.LOSS_WEIGHT": (1.0,),
    "SOLVER.BASE_LR_END": (0.0,),
    "SOLVER.BIAS_LR_FACTOR": (1.0,),
    "SOLVER.CLIP_GRADIENTS.ENABLED": (False,),
    "SOLVER.NESTEROV": (False,),
    "SOLVER.WARMUP_METHOD": ("linear",),
    "TEST.PRECISE_BN.ENABLED": (False,),
    "VERSION": (2,),
}

# How the keys of settings begin that matter in training alone, and so cannot prevent detection.
OF_TRAINING = (
    "DATALOADER.",
    "INPUT.CROP.",
    "INPUT.MAX_SIZE_TRAIN",
    "INPUT.MIN_SIZE_TRAIN",
    "INPUT.RANDOM_FLIP",
    "MODEL.BACKBONE.FREEZE_AT",
    *(f"MODEL.{part}.BATCH_SIZE_PER_IMAGE" for part in ("ROI_HEADS", "RPN")),
    *(f"MODEL.{part}.BBOX_REG_LOSS_" for part in ("ROI_BOX_HEAD", "RPN")),
    *(f"MODEL.{part}.POSITIVE_FRACTION" for part in ("ROI_HEADS", "RPN")),
    *(f"MODEL.{part}.SMOOTH_L1_BETA" for part in ("ROI_BOX_HEAD", "RPN")),
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES",
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS",
    "MODEL.ROI_HEADS.IGNORE_THRESHOLD",
    "MODEL.ROI_HEADS.IOU_",
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT",
    "MODEL.RPN.BOUNDARY_THRESH",
    "MODEL.RPN.IGNORE_THRESHOLD",
    "MODEL.RPN.IOU_",
    "MODEL.RPN.LOSS_WEIGHT",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN",
    "SEED",
    "SOLVER.",
    "TEST.EVAL_PERIOD",
    "TEST.PRECISE_BN.",
)

Kind = Literal["c4", "fpn", "dc5"]
PYRAMID = ["res2", "res3", "res4", "res5"]

# What makes each kind of model, with the one value that it has there; detectron2's defaults are those of C4.
STRUCTURE: Mapping[Kind, Mapping[str, Any]] = {
    "c4": {
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.FPN.IN_FEATURES": [],
        "MODEL.RESNETS.OUT_FEATURES": ["res4"],
        "MODEL.RESNETS.RES5_DILATION": 1,
        "MODEL.ROI_HEADS.IN_FEATURES": ["res4"],
        "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
        "MODEL.RPN.IN_FEATURES": ["res4"],
    },
    "fpn": {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.FPN.IN_FEATURES": PYRAMID,
        "MODEL.RESNETS.OUT_FEATURES": PYRAMID,
        "MODEL.RESNETS.RES5_DILATION": 1,
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    },
    "dc5": {
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.FPN.IN_FEATURES": [],
        "MODEL.RESNETS.OUT_FEATURES": ["res5"],
        "MODEL.RESNETS.RES5_DILATION": 2,
        "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.RPN.IN_FEATURES": ["res5"],
    },
}

# Of the pyramid, and of the layers between pooling and the outputs, which C4 has not.
BOX_HEAD: Mapping[str, str] = {
    "MODEL.ROI_BOX_HEAD.CONV_DIM": "model.roi.conv_channels",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "model.roi.fc_channels",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": "model.roi.conv_layers",
    "MODEL.ROI_BOX_HEAD.NUM_FC": "model.roi.fc_layers",
}
BOX_HEAD_NAME = "FastRCNNConvFCHead"

# Parts beside the box branch: the switch, what it is called, and how its tensors' names begin.
OTHER_BRANCHES: Mapping[str, tuple[str, str]] = {
    "MODEL.MASK_ON": ("the mask head", "roi_heads.mask_head."),
    "MODEL.KEYPOINT_ON": ("the keypoint head", "roi_heads.keypoint_head."),
}

# Ignored on purpose: they choose files and machines, or belong to parts that a switch proves to be off.
IGNORED = (
    "CUDNN_BENCHMARK",
    "DATALOADER.REPEAT_SQRT",
    "DATALOADER.REPEAT_THRESHOLD",
    "DATASETS.",
    "FLOAT32_PRECISION",
    "GLOBAL.HACK",
    "INPUT.CROP.",
    "INPUT.MASK_FORMAT",
    "MODEL.ANCHOR_GENERATOR.ANGLES",
    "MODEL.DEVICE",
    "MODEL.FPN.",
    "MODEL.PANOPTIC_FPN.",
    "MODEL.RESNETS.DEFORM_",
    "MODEL.RETINANET.",
    "MODEL.ROI_BOX_CASCADE_HEAD.",
    "MODEL.ROI_BOX_HEAD.CONV_DIM",
    "MODEL.ROI_BOX_HEAD.FC_DIM",
    "MODEL.ROI_BOX_HEAD.FED_LOSS_",
    "MODEL.ROI_BOX_HEAD.NAME",
    "MODEL.ROI_BOX_HEAD.NORM",
    "MODEL.ROI_BOX_HEAD.NUM_CONV",
    "MODEL.ROI_BOX_HEAD.NUM_FC",
    "MODEL.ROI_KEYPOINT_HEAD.",
    "MODEL.ROI_MASK_HEAD.",
    "MODEL.SEM_SEG_HEAD.",
    "MODEL.WEIGHTS",
    "OUTPUT_DIR",
    "SOLVER.CLIP_GRADIENTS.",
    "SOLVER.NUM_DECAYS",
    "SOLVER.REFERENCE_WORLD_SIZE",
    "SOLVER.RESCALE_INTERVAL",
    "TEST.AUG.",
    "TEST.EXPECTED_RESULTS",
    "TEST.KEYPOINT_OKS_SIGMAS",
    "TEST.PRECISE_BN.",
    "VIS_PERIOD",
)

NORMS = {
    "FrozenBN": "frozen_batch",
    **dict.fromkeys(("BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"), "batch"),  # of one or several GPUs
    "GN": "group",
}
NORMS_OR_NONE = {"": None, **NORMS}
POOLERS = {"ROIAlignV2": ("align", True), "ROIAlign": ("align", False), "ROIPool": ("pool", True)}
SCHEDULES = {"WarmupMultiStepLR": "steps", "WarmupCosineLR": "cosine"}
FLIPS = {"horizontal": (0.5, 0.0), "vertical": (0.0, 0.5), "none": (0.0, 0.0)}  # horizontal, vertical probability
FPN_PADDING = 32  # the stride of res5, of which its feature pyramid wants the padded picture to be a multiple
