"""The default of every field. An experiment file states only what differs.

Fields are flat and typed: override one on the command line with
`--config.<field>=<value>`; tuples take Python syntax,
`--config.dice_weights='(0.01, 0.1)'`.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The released code's recipe, for ISIC 2017, without a prior."""
  config = ml_collections.ConfigDict()

  # --- data ---
  config.dataset = 'isic2017'
  # Folder of prepared data sets; empty: $ATTNMEL_DATA, else ~/attnmel_data.
  config.data_dir = ''
  # Classes that count as positive in a binary task; (): all classes apart.
  config.positive = ('melanoma',)
  # Region that the attention is pulled to: none, lesion, dermo, background or
  # generated.
  config.roi = 'none'
  # Name of the masks that launch/generate_masks.py drew, for roi='generated'.
  config.generated_masks = 'unet'
  # Attributes whose union is the `dermo` map: the four of ISIC 2017, Part 2.
  config.dermo_attributes = (
      'pigment_network', 'negative_network', 'milia_like_cyst', 'streaks')
  # Side of the prepared central square, as a share of the shorter image side.
  config.crop_ratio = 0.8
  config.resize_size = 256  # side of prepared images, in pixels
  config.image_size = 224   # side of the network's input, a multiple of 32
  config.normalisation = 'isic2017'  # isic2016, isic2017, isic2018, imagenet
  # Decoded images stay in memory up to this size, else they are streamed.
  config.cache_gib = 4.0

  # --- split ---
  # num_folds = 1: the official split, where fold can only be 0. Otherwise fold
  # k of a cross-validation over the training images is the test set.
  config.fold = 0
  config.num_folds = 1
  config.group_folds = True  # keep all images of a lesion in one fold
  # Share of the training lesions held out to choose the checkpoint, where the
  # data set has no validation split or the run is a fold.
  config.validation_fraction = 0.1
  # Of folds and held-out images. config.seed draws weights, batches and augmentation,
  # so that several seeds train on one division.
  config.split_seed = 0

  # Go on where parts share images, lesions or near-duplicates. Every table of the run
  # then says so. (group_folds=False shares lesions by intention: it needs no leave.)
  config.allow_leakage = False

  # --- sampling ---
  # repeat: rows repeated by oversample_factors; inverse_frequency: as many
  # rows as images, drawn with weight 1/p of the class; none.
  config.sampler = 'repeat'
  # A factor per class, in the data set's order of classes.
  config.oversample_factors = (4, 1, 1)

  # --- augmentation of training images and maps: one draw for both ---
  config.random_crop = True      # image_size out of resize_size; else central
  config.random_rotation = True  # by a multiple of 90 degrees
  config.random_flip = True      # horizontal and vertical, probability 1/2 each

  # --- model ---
  # vgg16, vgg16_gap, mel_cnn, attnmel_cnn; unet draws masks: width alone applies.
  config.model = 'attnmel_cnn'
  config.backbone = 'vgg16_bn'   # vgg16, vgg16_bn
  config.width = 1.0             # factor on the backbone's channels
  config.taps = ('pool3', 'pool4')  # where gates (or plain pooling) attach
  config.gate_width = 256        # channels inside a gate
  config.gate_norm = 'sigmoid'   # sigmoid (+ average) or softmax (+ sum)
  config.dropout_rate = 0.5      # of the dense layers; vgg16 alone has them
  config.dtype = 'float32'       # of the computation: float32, bfloat16, float64
  # imagenet (downloaded once), a .pth or .safetensors file, or '' for scratch.
  config.pretrained = 'imagenet'
  # Bring every layer of a plain vgg16 to unit root-mean-square activation.
  config.rescale_pretrained = False

  # --- loss ---
  config.focal_gamma = 2.0
  config.dice_weights = (0.001, 0.01)  # lambda of Eq. 2.7, one per tap

  # --- optimisation ---
  config.batch_size = 32         # over all devices
  # Micro-batches that each device divides its share of the batch into, to save
  # memory; the loss stays that of the whole batch. With gates every micro-batch
  # runs forward twice, about a third more time.
  config.accumulate_steps = 1
  # Let vgg16_bn accumulate, although BatchNorm then normalises each micro-batch
  # by itself: no longer the large batch's step.
  config.accumulate_batch_norm = False
  # Compute the backbone's blocks again in the backward pass instead of keeping
  # their layers: the same step. For accelerators; on a CPU it saves no memory.
  config.remat = False
  config.num_epochs = 50
  config.passes_per_epoch = 2    # over the oversampled rows
  config.learning_rate = 0.01
  config.decay_every_epochs = 10
  config.decay_factor = 0.1
  config.momentum = 0.9
  config.nesterov = True
  config.weight_decay = 1e-4     # on every parameter
  config.seed = 0

  # --- running and scoring ---
  config.log_every_steps = 10
  config.checkpoint_every_steps = 200  # besides the end of each epoch
  # Average predictions over the 8 flips and quarter turns: eight times the work,
  # also whenever the validation set chooses a checkpoint.
  config.tta = False
  config.bootstrap_draws = 2000        # of the 95 % intervals
  config.bootstrap_seed = 0            # the same draws for all runs to compare
  config.overlay_images = 8            # in the picture of attention maps
  # Curves and, after each validation, that picture for TensorBoard, in tensorboard/
  # of the run folder.
  config.tensorboard = False

  return config
