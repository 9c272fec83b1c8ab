"""Every configuration key, once, with its unit and meaning.

Sizes are (height, width) in pixels, costs are in millions of multiply-adds (MFLOPs in the paper's words),
periods are in iterations unless their name says otherwise.
"""

from __future__ import annotations

from dl_lib.config.config_node import CfgNode

__all__ = ["DEFAULTS"]

_C = CfgNode()

# ---------------------------------------------------------------------------------------------------- model
_C.MODEL = CfgNode()
_C.MODEL.META_ARCHITECTURE = "DynamicNet4Seg"
_C.MODEL.DEVICE = "auto"  # auto (a GPU where there is one) | cpu | cuda | cuda:N
_C.MODEL.WEIGHTS = ""  # a checkpoint of ours or of the published code; "" starts from the initialisation
_C.MODEL.ALLOW_MISSING_KEYS = []  # parts, such as gate, that start afresh where WEIGHTS lacks them or has another shape
_C.MODEL.ALLOW_UNEXPECTED_KEYS = []  # parts of WEIGHTS by name, such as fc: left out if the model has no place for them
_C.MODEL.CHANNELS_LAST = False  # memory order NHWC: faster on CPUs (docs/performance.md), equal results within rounding
_C.MODEL.COMPILE = False  # torch.compile what runs densely: not the sparse evaluation of routed networks
_C.MODEL.ACTIVATION_CHECKPOINTING = False  # in training, compute layers or blocks twice, to save memory
_C.MODEL.TEMP_ANNEAL_RATE = 0.05  # share of the training in which dynamic convolutions' temperature falls from 30 to 1
_C.MODEL.PIXEL_MEAN = [103.53, 116.28, 123.675]  # per channel, in the order of INPUT.FORMAT, range 0..255
_C.MODEL.PIXEL_STD = [1.0, 1.0, 1.0]

_C.MODEL.BACKBONE = CfgNode()
_C.MODEL.BACKBONE.NAME = "DynamicNetwork"
_C.MODEL.BACKBONE.CELL_TYPE = ["sep_conv_3x3", "skip_connect"]  # operations that a cell sums up
_C.MODEL.BACKBONE.LAYER_NUM = 16  # layers after the source cell
_C.MODEL.BACKBONE.CELL_NUM_LIST = [2, 3] + [4] * 14  # cells (scales) of each of these layers
_C.MODEL.BACKBONE.INIT_CHANNEL = 64  # channels at stride 4; they double with each scale
_C.MODEL.BACKBONE.MAX_STRIDE = 32  # stride of the coarsest scale
_C.MODEL.BACKBONE.SEPT_STEM = True  # depthwise-separable convolutions in the stem
_C.MODEL.BACKBONE.NORM = "SyncBN"  # BN | SyncBN (also by its published name nnSyncBN) | FrozenBN | GN
_C.MODEL.BACKBONE.DROP_PROB = 0.0  # scheduled drop path: probability at the last layer and the last iteration
# Of the static backbones, for SemanticSegmentor; of those above they look at NORM, and rexnet at DROP_PROB (all along).
_C.MODEL.BACKBONE.OUTPUT_STRIDE = 32  # 8 | 16 | 32: of the coarsest feature; below 32, dilations replace strides
_C.MODEL.BACKBONE.FROZEN_STAGES = []  # of c1 to c5: do not learn, and their batch norms keep their statistics
_C.MODEL.BACKBONE.WIDTH_FACTOR = 1.0  # rexnet, rexnet_lite: of the channels
_C.MODEL.BACKBONE.DEPTH_FACTOR = 1.0  # rexnet, rexnet_lite: of the blocks in each stage, rounded up
_C.MODEL.BACKBONE.SQUEEZE_NORM = ""  # rexnet: norm inside squeeze-and-excitation, of maps of one pixel; "": NORM

_C.MODEL.CONV = CfgNode()  # of the static backbones; the lattice has CELL_TYPE
_C.MODEL.CONV.STAGES = []  # of c1 to c5: where convolutions are replaced
_C.MODEL.CONV.TYPE = ""  # by CondConv | DynamicConv | ConvAWS | SAC | SPConv (this one only where there are no groups)
_C.MODEL.CONV.KERNELS = ["larger"]  # some of larger (than 1x1), 1x1, squeeze (1x1 inside squeeze-and-excitation): which

_C.MODEL.GATE = CfgNode()
_C.MODEL.GATE.GATE_ON = True  # False: fixed routing, every gate is one
_C.MODEL.GATE.GATE_INIT_BIAS = 1.5
_C.MODEL.GATE.SMALL_GATE = False  # gates look at the input resized by 0.25
_C.MODEL.GATE.UNREACHED = "skip"  # what a cell does that nothing is delivered to: skip | run | published

_C.MODEL.SEM_SEG_HEAD = CfgNode()
_C.MODEL.SEM_SEG_HEAD.NAME = "SemSegDecoderHead"
_C.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["layer_0", "layer_1", "layer_2", "layer_3"]  # finest scale first
_C.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 19
_C.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 255  # label that neither loss nor evaluation looks at
_C.MODEL.SEM_SEG_HEAD.NORM = "SyncBN"
_C.MODEL.SEM_SEG_HEAD.CHANNELS = 128  # inside SemanticFPNHead (its paper: 128) and ASPPHead (its paper: 256)
_C.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT = 1.0

_C.MODEL.AUXILIARY_HEADS = CfgNode()
_C.MODEL.AUXILIARY_HEADS.IN_FEATURES = []  # features that heads of their own predict the classes from, in training only
_C.MODEL.AUXILIARY_HEADS.CHANNELS = 256  # inside each of them
_C.MODEL.AUXILIARY_HEADS.LOSS_WEIGHT = 0.4

_C.MODEL.LOSS = CfgNode()  # beside SEM_SEG_HEAD.LOSS_WEIGHT, the weight of the cross-entropy
_C.MODEL.LOSS.CLASS_WEIGHTS = []  # in the cross-entropy, one for each class; [] weighs all alike
_C.MODEL.LOSS.LABEL_SMOOTHING = 0.0  # share of the cross-entropy's target that is spread over all classes
_C.MODEL.LOSS.DICE_WEIGHT = 0.0
_C.MODEL.LOSS.LOVASZ_WEIGHT = 0.0  # of the Lovász-softmax loss
_C.MODEL.LOSS.OHEM = CfgNode()  # online hard example mining: the cross-entropy of hard pixels only
_C.MODEL.LOSS.OHEM.ENABLED = False
_C.MODEL.LOSS.OHEM.MAX_PROBABILITY = 0.7  # a pixel is hard if its true class has at most this
_C.MODEL.LOSS.OHEM.MIN_RATIO = 0.0625  # of each image's labelled pixels, the hardest, that always count

_C.MODEL.BUDGET = CfgNode()
_C.MODEL.BUDGET.CONSTRAIN = False
_C.MODEL.BUDGET.LOSS_WEIGHT = 0.0
_C.MODEL.BUDGET.LOSS_MU = 0.0  # target: share of FLOPS_ALL that the expected cost should have
_C.MODEL.BUDGET.FLOPS_ALL = 0.0  # MFLOPs of the whole lattice; 0 measures it at the training crop
_C.MODEL.BUDGET.UNUPDATE_RATE = 0.4  # share of the training in which the budget is not yet imposed
_C.MODEL.BUDGET.WARM_UP = True  # then let it grow linearly over 2 % of the training

# ----------------------------------------------------------------------------------------------------- data
_C.DATASETS = CfgNode()
_C.DATASETS.TRAIN = []  # registered names; several are concatenated
_C.DATASETS.TEST = []  # registered names; each is evaluated by itself
_C.DATASETS.FOLDERS = []  # data sets of your own, registered from here: see datasets/README.md

_C.DATALOADER = CfgNode()
_C.DATALOADER.NUM_WORKERS = 4  # processes that load data, for each training process
_C.DATALOADER.CACHE = "none"  # none | memmap: decode each image once, into a file that is mapped into memory
_C.DATALOADER.CACHE_DIR = ""  # where; "" means <data sets' root>/.cache
_C.DATALOADER.ON_ERROR = "raise"  # raise | skip: what a sample that cannot be read or used does to the run
_C.DATALOADER.MAX_SKIPPED = 10  # different samples that a process may skip before the run ends in an error after all

_C.INPUT = CfgNode()
_C.INPUT.FORMAT = "BGR"  # BGR | RGB: the channel order that the model sees
_C.INPUT.BACKEND = "cv2"  # cv2 | pil (antialiased when shrinking: what the published figures were made with)
_C.INPUT.MIN_SIZE_TRAIN = [512, 768, 1024, 1280, 1536, 2048]  # shorter edge, one drawn for each image; [] keeps it
_C.INPUT.MAX_SIZE_TRAIN = 4096  # longer edge, at most
_C.INPUT.SCALE_RANGE_TRAIN = []  # [low, high]: in the place of MIN_SIZE_TRAIN, a share of the image's own size
_C.INPUT.MIN_SIZE_TEST = 1024  # 0 keeps the image's own size
_C.INPUT.MAX_SIZE_TEST = 2048
_C.INPUT.FLIP_PROB = 0.5  # horizontal flip in training
_C.INPUT.CROP_SIZE = [768, 768]  # (height, width) of the training crop, padded where the image is smaller; [] keeps it
_C.INPUT.CROP_IMAGE_PAD_VALUE = 0  # raw pixel value (0..255) beside the image; labels get the ignore value there
_C.INPUT.CROP_MAX_CLASS_RATIO = 1.0  # of up to ten crops drawn, take the first in which no class has more than this
_C.INPUT.ROTATION_DEGREES = 0.0  # rotate by up to so many degrees to either side, before the crop
_C.INPUT.BLUR_PROB = 0.0  # Gaussian blur in training
_C.INPUT.BLUR_SIGMA = [0.1, 2.0]  # (low, high) in pixels
_C.INPUT.PHOTOMETRIC = CfgNode()
_C.INPUT.PHOTOMETRIC.ENABLED = False  # brightness, contrast, saturation and hue, each with probability 0.5
_C.INPUT.PHOTOMETRIC.BRIGHTNESS = 32.0  # added, at most (of 255)
_C.INPUT.PHOTOMETRIC.CONTRAST = 0.5  # factor in 1 -+ this
_C.INPUT.PHOTOMETRIC.SATURATION = 0.5  # factor in 1 -+ this
_C.INPUT.PHOTOMETRIC.HUE_DEGREES = 18.0  # of the colour circle's 360, at most

# --------------------------------------------------------------------------------------------------- solver
_C.SOLVER = CfgNode()
_C.SOLVER.IMS_PER_BATCH = 8  # images of one step, over all processes together
_C.SOLVER.ACCUMULATION_STEPS = 1  # parts that each process takes its share of a step in, one after the other
_C.SOLVER.PRECISION = "float32"  # float32 | bf16 | fp16: of the forward pass but for gates, costs and losses
_C.SOLVER.CHECKPOINT_PERIOD = 5000
_C.SOLVER.CHECKPOINT_KEEP_LAST = 0  # of the checkpoints at each period, delete all but so many; 0 keeps all
_C.SOLVER.CHECKPOINT_KEEP_EVERY = 0  # but keep those at multiples of so many iterations for ever
_C.SOLVER.BEST_METRIC = ""  # save model_best.pth by this score, such as voc_2012_sem_seg_val/mIoU; "" saves none
_C.SOLVER.BEST_METRIC_MODE = "max"  # max | min: whether it is better higher or lower
_C.SOLVER.GRAD_CLIP = 5.0  # 0 switches it off
_C.SOLVER.GRAD_CLIP_TYPE = "norm"  # norm (L2, of all gradients taken together) | value (of each number)
_C.SOLVER.NON_FINITE = "stop"  # stop | skip: what a loss or gradient that is not finite does
_C.SOLVER.MAX_NON_FINITE = 10  # steps that skip may leave out before the run stops after all
_C.SOLVER.EMA = CfgNode()
_C.SOLVER.EMA.DECAY = 0.0  # keep an exponential moving average of the weights, such as 0.999; 0 keeps none
_C.SOLVER.EMA.EVALUATE = True  # evaluate the average in the place of the weights

_C.SOLVER.OPTIMIZER = CfgNode()
_C.SOLVER.OPTIMIZER.NAME = "SGD"  # SGD | AdamW
_C.SOLVER.OPTIMIZER.BASE_LR = 0.05
_C.SOLVER.OPTIMIZER.MOMENTUM = 0.9  # of SGD
_C.SOLVER.OPTIMIZER.BETAS = [0.9, 0.999]  # of AdamW: what stays of the means of gradients and of their squares
_C.SOLVER.OPTIMIZER.EPS = 1e-8  # of AdamW
_C.SOLVER.OPTIMIZER.WEIGHT_DECAY = 1e-4
_C.SOLVER.OPTIMIZER.WEIGHT_DECAY_BIAS = -1.0  # biases of all but norms; -1 takes WEIGHT_DECAY, as published
_C.SOLVER.OPTIMIZER.WEIGHT_DECAY_NORM = 0.0  # scale and shift of the norms
_C.SOLVER.OPTIMIZER.GATE_LR_MULTI = 1.0  # learning rate of the gates, as a multiple of BASE_LR
# Parameters by their names: {PARAMS: a regular expression, LR_MULTI: in the place of GATE_LR_MULTI, WEIGHT_DECAY: in
# the place of those above}; either may be left out, and of several that fit a parameter the first one counts.
_C.SOLVER.OPTIMIZER.GROUPS = []

_C.SOLVER.LR_SCHEDULER = CfgNode()
_C.SOLVER.LR_SCHEDULER.NAME = "PolyLR"  # PolyLR | CosineLR | MultiStepLR | OneCycleLR
_C.SOLVER.LR_SCHEDULER.MAX_ITER = 190000
_C.SOLVER.LR_SCHEDULER.POLY_POWER = 0.9
_C.SOLVER.LR_SCHEDULER.STEPS = []  # MultiStepLR: iterations at which the learning rate is multiplied by GAMMA
_C.SOLVER.LR_SCHEDULER.GAMMA = 0.1
_C.SOLVER.LR_SCHEDULER.END_FACTOR = 0.0  # CosineLR, OneCycleLR: learning rate at MAX_ITER, as a share of BASE_LR
_C.SOLVER.LR_SCHEDULER.ONE_CYCLE = CfgNode()
_C.SOLVER.LR_SCHEDULER.ONE_CYCLE.PEAK_AT = 0.3  # share of the training after which it is BASE_LR
_C.SOLVER.LR_SCHEDULER.ONE_CYCLE.START_FACTOR = 0.04  # learning rate at iteration 0, as a share of BASE_LR
_C.SOLVER.LR_SCHEDULER.WARMUP_ITERS = 1000  # of all schedules but OneCycleLR, which wants 0 here
_C.SOLVER.LR_SCHEDULER.WARMUP_FACTOR = 0.001  # learning rate at iteration 0, as a share; grows linearly

_C.SOLVER.EARLY_STOPPING = CfgNode()
_C.SOLVER.EARLY_STOPPING.METRIC = ""  # stop when this score, such as voc_2012_sem_seg_val/mIoU, gets no better; "": off
_C.SOLVER.EARLY_STOPPING.MODE = "max"  # max | min: whether it is better higher or lower
_C.SOLVER.EARLY_STOPPING.PATIENCE = 10  # evaluations one after the other without a better score
_C.SOLVER.EARLY_STOPPING.MIN_DELTA = 0.0  # a score is better only if it is so by more than this

# --------------------------------------------------------------------------------------------------- the run
_C.TEST = CfgNode()
_C.TEST.EVAL_PERIOD = 0  # evaluate during training every so many iterations; 0 only at its end
_C.TEST.VALIDATION_LOSS = False  # in training, with each evaluation: the losses of labels on DATASETS.TEST, too
_C.TEST.EXECUTION = "sparse"  # sparse (closed parts do not run) | dense (everything runs)
_C.TEST.ABSENT_CLASSES = "exclude"  # exclude | zero_if_predicted (the published evaluator's rule), in the mIoU
_C.TEST.BOUNDARY_IOU = False  # score the classes' boundaries too
_C.TEST.OFFICIAL_SCORES = False  # score with the data set's official script too, where it has one
_C.TEST.SAVE_PREDICTIONS = []  # any of label_png, coco_rle
_C.TEST.SLIDING = CfgNode()
_C.TEST.SLIDING.WINDOW = []  # (height, width) of windows that the image is run in; [] runs it whole
_C.TEST.SLIDING.OVERLAP = 0.33  # of neighbouring windows, at least, as a share of the window
_C.TEST.MULTI_SCALE = CfgNode()
_C.TEST.MULTI_SCALE.SCALES = [1.0]  # the image is run at each of these shares of its size, the logits are averaged
_C.TEST.MULTI_SCALE.FLIP = False  # and mirrored, too
_C.TEST.PRECISE_BN = CfgNode()
_C.TEST.PRECISE_BN.ENABLED = False  # recompute the norms' statistics before each evaluation
_C.TEST.PRECISE_BN.NUM_ITER = 200  # from so many training batches

_C.OUTPUT_DIR = ""  # the run's folder; "" means ./output/<name of the playground folder or config file>
_C.PROCESS_TIMEOUT_SECONDS = 1800.0  # how long processes wait for each other: longer than what one does alone takes
_C.SEED = 0  # of every random generator; -1 draws one and logs it
_C.LOG_PERIOD = 20  # a line of metrics every so many iterations
_C.VIS_PERIOD = 0  # TensorBoard: a test image, prediction, route; iterations, a multiple of LOG_PERIOD; 0: none

# A line in an old config that means nothing any more: costs are measured at the size of each input.
_C.register_deprecated_key("INPUT.FIX_SIZE_FOR_FLOPS")

DEFAULTS = _C
