"""The data sets that are known, by the official names of their archives."""

import functools

from attnmel_jax import errors
from attnmel_jax.data import archives
from attnmel_jax.data import labels

# The user's own photographs, from a table instead of archives; see `folder`.
FOLDER = 'folder'
SPLITS = ('train', 'validation', 'test')

_BUCKET = 'https://isic-challenge-data.s3.amazonaws.com/{year}/'
_ATTRIBUTES = ('pigment_network', 'negative_network', 'milia_like_cyst', 'streaks',
               'globules')
_ATTRIBUTE = ('attribute', r'(?P<id>.+?)_attribute_(?P<attribute>.+)\.png')
_IMAGE = ('image', r'(?P<id>.+)\.(jpe?g|png)')
_LESION = ('lesion', r'(?P<id>.+)_segmentation\.png')

_ISIC2016 = archives.Dataset(
    name='isic2016',
    class_names=('benign', 'malignant'),
    attributes=(),
    base_url=_BUCKET.format(year=2016),
    splits={'train': 'Training', 'test': 'Test'},
    files={'images': 'ISBI2016_ISIC_Part3_{split}_Data.zip',
           'labels': 'ISBI2016_ISIC_Part3_{split}_GroundTruth.csv',
           'lesion': 'ISBI2016_ISIC_Part1_{split}_GroundTruth.zip'},
    required=('images', 'labels'),
    published=('images', 'labels', 'lesion'),
    elsewhere={},
    members={'images': (_IMAGE,), 'lesion': (_LESION,)},
    read_labels=labels.isic2016,
    read_groups=None)

_ISIC2017 = archives.Dataset(
    name='isic2017',
    class_names=('melanoma', 'seborrheic_keratosis', 'nevus'),
    attributes=_ATTRIBUTES,
    base_url=_BUCKET.format(year=2017),
    splits={'train': 'Training', 'validation': 'Validation', 'test': 'Test_v2'},
    files={'images': 'ISIC-2017_{split}_Data.zip',
           'labels': 'ISIC-2017_{split}_Part3_GroundTruth.csv',
           'lesion': 'ISIC-2017_{split}_Part1_GroundTruth.zip',
           'features': 'ISIC-2017_{split}_Part2_GroundTruth.zip',
           'attributes': 'ISIC-2017_{split}_AttributeMasks.zip'},
    required=('images', 'labels'),
    published=('images', 'labels', 'lesion', 'features'),
    elsewhere={},
    members={'images': (('superpixels', r'(?P<id>.+)_superpixels\.png'), _IMAGE),
             'lesion': (_LESION,),
             'features': (('features', r'(?P<id>.+)_features\.json'),),
             'attributes': (_ATTRIBUTE,)},
    read_labels=labels.isic2017,
    read_groups=None)

_CLASSES_2018 = ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')
_ISIC2018 = archives.Dataset(  # Task 3, the images of HAM10000
    name='isic2018',
    class_names=_CLASSES_2018,
    attributes=(),
    base_url=_BUCKET.format(year=2018),
    splits={'train': 'Training', 'validation': 'Validation', 'test': 'Test'},
    files={'images': 'ISIC2018_Task3_{split}_Input.zip',
           'labels': 'ISIC2018_Task3_{split}_GroundTruth.zip',
           'groups': 'ISIC2018_Task3_Training_LesionGroupings.csv',
           'lesion': 'HAM10000_segmentations_lesion_tschandl.zip'},
    # Without the lesions, folds that promise to keep them together would not.
    required=('images', 'labels', 'groups'),
    published=('images', 'labels', 'groups'),
    elsewhere={'lesion': 'https://doi.org/10.7910/DVN/DBW86T'},
    members={'images': (_IMAGE,), 'lesion': (_LESION,)},
    read_labels=functools.partial(labels.isic2018, columns=_CLASSES_2018),
    read_groups=labels.isic2018_lesions)

_ISIC2018_TASK1 = archives.Dataset(  # segmentation; attributes of Task 2
    name='isic2018_task1',
    class_names=(),
    attributes=_ATTRIBUTES,
    base_url=_BUCKET.format(year=2018),
    splits={'train': 'Training', 'validation': 'Validation', 'test': 'Test'},
    files={'images': 'ISIC2018_Task1-2_{split}_Input.zip',
           'lesion': 'ISIC2018_Task1_{split}_GroundTruth.zip',
           'attributes': 'ISIC2018_Task2_Training_GroundTruth_v3.zip'},
    required=('images', 'lesion'),
    published=('images', 'lesion', 'attributes'),
    elsewhere={},
    members={'images': (_IMAGE,), 'lesion': (_LESION,), 'attributes': (_ATTRIBUTE,)},
    read_labels=None,
    read_groups=None)

DATASETS = {dataset.name: dataset for dataset in (
    _ISIC2016, _ISIC2017, _ISIC2018, _ISIC2018_TASK1)}
NAMES = (*DATASETS, FOLDER)


def splits(dataset: str) -> tuple[str, ...]:
  """The splits that a data set may have, in order.

  Raises:
    UserError: there is no such data set.
  """
  errors.check_choice('dataset', dataset, NAMES)
  return SPLITS if dataset == FOLDER else tuple(DATASETS[dataset].splits)
