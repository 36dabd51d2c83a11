"""Maps beside a prepared split: written once, whole, bound to U-Net and images."""

import dataclasses
import hashlib
import json
import pathlib

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.data import generated
from attnmel_jax.data import storage
from tests.data import conftest

UNET = {'config': {'seed': 0, 'taps': ('a', 'b')}, 'best_step': 9, 'parameters': 'f00',
        'trained_on': ['ISIC_1', 'ISIC_2']}


@dataclasses.dataclass
class FakeSplit:
  """Stands for storage.PreparedSplit."""

  path: pathlib.Path
  ids: np.ndarray = dataclasses.field(
      default_factory=lambda: np.array(['ISIC_7', 'ISIC_8', 'ISIC_9']))
  dataset: str = 'isic2018'
  side: int = 8
  fingerprint: str = '0123456789abcdef'
  generated: object = None


@pytest.fixture
def split(tmp_path):
  return FakeSplit(tmp_path / 'isic2018' / 'train-crop1.0-side8-bilinear' / '1.0.0')


def _map(row):
  return np.random.default_rng(row).integers(0, 256, (8, 8), np.uint8)


def _write(split, rows=range(3), unet=UNET, finish=True, name='unet'):
  with generated.open_writer(split, name, unet) as writer:
    for row in rows:
      writer.write(row, _map(row))
    return writer.finish() if finish else writer


def test_what_is_written_is_read(split, tmp_path):
  fingerprint = _write(split)
  maps = generated.open_maps(split, 'unet')
  assert maps.path == (
      tmp_path / 'isic2018' / 'train-crop1.0-side8-bilinear-generated-unet')
  assert maps.ids == ('ISIC_7', 'ISIC_8', 'ISIC_9')
  for row in range(3):
    np.testing.assert_array_equal(maps.load(row), _map(row))
  assert maps.unet == json.loads(json.dumps(UNET))
  by_hand = b''.join(name.encode() + b'\0' + _map(row).tobytes()
                     for row, name in enumerate(maps.ids))
  assert maps.fingerprint == fingerprint == hashlib.sha256(by_hand).hexdigest()
  assert generated.attach(split, 'unet').generated.fingerprint == fingerprint


def test_finished_maps_are_kept_and_the_rest_is_made(split):
  folder = _write(split, rows=[0, 1], finish=False).path
  (folder / 'ISIC_8.png').write_bytes((folder / 'ISIC_8.png').read_bytes()[:-30])
  for name in ('.ISIC_9.png.7.tmp', '.notes.7.tmp'):
    (folder / name).write_bytes(b'cut short')
  with generated.open_writer(split, 'unet', UNET) as writer:
    assert not writer.is_whole()
    np.testing.assert_array_equal(writer.missing(), [1, 2])
    assert not (folder / '.ISIC_9.png.7.tmp').exists()
    (folder / '.notes.7.tmp').unlink()  # of somebody else
    for row in writer.missing():
      writer.write(row, _map(row))
    writer.finish()
  with generated.open_writer(split, 'unet', UNET) as writer:
    assert writer.is_whole()
  assert {path.name for path in folder.iterdir()} == {
      'identity.json', 'index.json', 'ISIC_7.png', 'ISIC_8.png', 'ISIC_9.png'}


def test_maps_are_bound_to_their_unet_and_images(split):
  _write(split, rows=[0], finish=False)
  other = UNET | {'parameters': 'bad'}
  with pytest.raises(errors.UserError, match='another U-Net; use another --name'):
    _write(split, unet=other)
  _write(split, unet=other, name='other')
  _write(split)
  assert generated.open_maps(split, 'unet').unet['parameters'] == 'f00'
  assert generated.open_maps(split, 'other').unet['parameters'] == 'bad'
  anew = dataclasses.replace(split, fingerprint='another')
  with pytest.raises(errors.UserError, match='other images .*generate_masks.py'):
    generated.open_maps(anew, 'unet')
  with pytest.raises(errors.UserError, match='other images'):
    _write(anew)


def test_what_is_not_ours_is_left_alone(split):
  folder = generated.folder(split, 'unet')
  folder.mkdir(parents=True)
  (folder / 'thesis.txt').write_text('all of it')
  with pytest.raises(errors.UserError, match='something other'):
    _write(split)
  assert (folder / 'thesis.txt').exists()


def test_missing_and_unfinished_maps_name_the_command(split):
  for state in ('do not exist', 'are incomplete'):
    with pytest.raises(errors.UserError) as caught:
      generated.open_maps(split, 'unet')
    message = str(caught.value)
    assert state in message and '\n' not in message
    assert 'launch/generate_masks.py --run=UNET_RUN --dataset=isic2018' in message
    _write(split, rows=[0], finish=False)


def test_damaged_maps_and_indices(split):
  _write(split)
  maps = generated.open_maps(split, 'unet')
  (maps.path / 'ISIC_8.png').unlink()
  with pytest.raises(errors.UserError, match='ISIC_8.png is missing or damaged'):
    maps.load(1)
  path = maps.path / 'index.json'
  index = json.loads(path.read_text())
  for changed in (index | {'ids': ['../../evil', *index['ids'][1:]]},  # names of files
                  index | {'side': 1}, index | {'unet': []},
                  index | {'unet': index['unet'] | {'trained_on': 3}}):
    path.write_text(json.dumps(changed))
    with pytest.raises(errors.UserError, match='is damaged'):
      generated.open_maps(split, 'unet')


def test_one_command_writes_at_a_time(split):
  with (generated.open_writer(split, 'unet', UNET),
        pytest.raises(errors.UserError, match='in use by another process')):
    _write(split, name='other')


def test_images_that_the_unet_knows_are_counted():
  generated.check_unseen(UNET, ['ISIC_3'], 'the 1 test images')
  with pytest.raises(errors.UserError, match='trained on 2 of the 3 .* such as ISIC_1'):
    generated.check_unseen(UNET, ['ISIC_2', 'ISIC_3', 'ISIC_1'], 'the 3 test images')


def test_states(split):
  config = UNET['config']
  assert generated.state(split, 'unet', config) == 'new'
  _write(split, rows=[0], finish=False)
  assert generated.state(split, 'unet', config) == 'begun'
  assert generated.state(split, 'unet', config | {'seed': 1}) == 'foreign'
  _write(split)
  assert generated.state(split, 'unet', config) == 'finished'
  assert generated.state(dataclasses.replace(split, fingerprint='x'), 'unet', config
                         ) == 'foreign'


def test_a_prepared_split_takes_them_in(data_dir):
  split = conftest.opened(data_dir)
  assert not split.has_generated.any()
  values = np.random.default_rng(0).integers(0, 256, (len(split), 24, 24), np.uint8)
  with generated.open_writer(split, 'unet', UNET) as writer:
    for row in range(len(split)):
      writer.write(row, values[row])
    writer.finish()
  assert storage.available_splits(
      'isic2017', data_dir=data_dir, **conftest.GEOMETRY) == ('train', 'validation')
  again = conftest.opened(data_dir)
  assert 'generated' not in again.load(3)
  attached = generated.attach(again, 'unet')
  assert attached.has_generated.all()
  np.testing.assert_array_equal(attached.load(3)['generated'], values[3])
  np.testing.assert_array_equal(attached.load(3)['image'], split.load(3)['image'])
