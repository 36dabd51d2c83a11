"""Hand-made run folders, and a few prepared phantom images for their photographs."""

from matplotlib import figure
import numpy as np
import pytest

from attnmel_jax.data import generated
from attnmel_jax.data import prepare
from attnmel_jax.data import storage
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.phantom import generate
from attnmel_jax.report import groups as groups_lib
from attnmel_jax.report import run_reader
from attnmel_jax.report.figures import plotting
from attnmel_jax.report.tables import published
from configs import common
from configs.grids import common as grid_systems
from tests.report import run_folders

SIDE, SEEN = 36, 32
ISIC2018 = {'dataset': 'isic2018', 'positive': (),
            'class_names': prediction_files.CHALLENGE_CLASSES}
# Those of Table 3.2.
SYSTEMS = {name: fields for name, fields in grid_systems.SYSTEMS.items()
           if fields['model'] != 'unet' and fields['roi'] != 'generated'}


@pytest.fixture(scope='session')
def prepared(built_once):
  """Folder of prepared phantom data: 12 training images, 6 and 9 others."""

  def build(root):
    generate.write_archives(
        root / 'archives', year=2017,
        counts={'train': 12, 'validation': 6, 'test': 9}, size=60, seed=3,
        artefact_bias={}, workers=1)
    prepare.from_archives('isic2017', source=root / 'archives', data_dir=root / 'data',
                          crop_ratio=0.8, resize_size=SIDE)

  return built_once('report-isic2017-12-6-9', build) / 'data'


def open_split(prepared, split):
  """A split of `prepared`."""
  return storage.open_split('isic2017', split, data_dir=prepared, crop_ratio=0.8,
                            resize_size=SIDE)


@pytest.fixture
def rows(prepared):
  """Ids, labels and probabilities of the nine test images of `prepared`."""
  return rows_of(prepared, 'test')


def rows_of(prepared, split, *, wrong=3):
  """Melanoma against the rest; every so many images are called wrongly."""
  data = open_split(prepared, split)
  labels = (data.labels == 0).astype(int)
  right = np.where(np.arange(len(data)) % wrong, 0.75, 0.25)
  scores = np.where(labels == 1, right, 1 - right)
  return data.ids, labels, np.stack([1 - scores, scores], axis=1)


def maps(number, *names, seed=0):
  """Attention maps of so many images by name, pool-3 and pool-4 unless given."""
  rng = np.random.default_rng(seed)
  sides = {'pool3': 4, 'pool4': 2, 'cam': 1, 'cam_positive': 1}
  return {name: rng.random((number, sides[name], sides[name]), np.float32)
          for name in names or ('pool3', 'pool4')}


def with_generated(prepared, root, make):
  """Folder of data in which the training images have the maps make(row) too."""
  (root / 'isic2017').mkdir(parents=True)
  for path in (prepared / 'isic2017').iterdir():
    (root / 'isic2017' / path.name).symlink_to(path)
  data = open_split(root, 'train')
  with generated.open_writer(data, 'unet', {'config': {}, 'trained_on': []}) as writer:
    for row in range(len(data)):
      writer.write(row, make(row))
    writer.finish()
  return root


def text(entries):
  """Figures as the page has them."""
  return '\n'.join(plotting.to_markdown(entries))


def predictions(number=40, *, classes=2, seed=0):
  """Ids, labels and probabilities [N, K] that tell the classes apart somewhat."""
  rng = np.random.default_rng([seed, number, classes])
  ids = np.array([f'ISIC_{i:07}' for i in range(number)])
  labels = np.arange(number) % classes
  logits = rng.normal(size=(number, classes)) + 1.5 * np.eye(classes)[labels]
  weights = np.exp(logits.round(1))  # some scores are equal
  return ids, labels, weights / weights.sum(axis=1, keepdims=True)


@pytest.fixture
def undrawn(monkeypatch):
  """The files of figures hold a word: to draw them takes most of the time."""
  monkeypatch.setattr(
      figure.Figure, 'savefig', lambda _, file, **options: file.write(b'drawn'))


@pytest.fixture
def make_run(tmp_path):
  """Writes a run folder with predictions that are given."""

  def make(name, rows, *, class_names=('other', 'melanoma'), **fields):
    options = {key: fields.pop(key) for key in (
        'maps', 'split', 'synthetic', 'fingerprints') if key in fields}
    own = common.get_config().to_dict() | {
        'resize_size': SIDE, 'image_size': SEEN,
        'data_dir': str(tmp_path / 'nowhere')} | fields
    folder = tmp_path / 'runs' / name
    run_folders.write(folder, own, predictions=(*rows, rows[0]), classes=class_names,
                      scored=(), threshold=0.5, **{'fingerprints': {}} | options)
    return folder

  return make


@pytest.fixture
def found(tmp_path):
  """Reads all runs that `make_run` made."""
  return lambda: run_reader.find_runs(tmp_path / 'runs')[0]


@pytest.fixture
def grouped(found):
  """The groups of all runs that `make_run` made, task by task."""

  def gather(split='auto'):
    defaults = run_folders.plan(num_draws=100).defaults
    return [group for _, own in published.tasks(found())
            for group in groups_lib.gather(own, split=split, defaults=defaults).groups]

  return gather


@pytest.fixture
def seven(make_run, grouped):
  """Makes and reads a run of every system of Table 3.2 on that many classes."""

  def make(classes):
    task = ISIC2018 if classes == 7 else {}
    for seed, (name, fields) in enumerate(SYSTEMS.items()):
      make_run(name, predictions(70, classes=classes, seed=seed), **task, **fields)
    return grouped()[0]

  return make
