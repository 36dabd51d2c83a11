"""Mutated archives, each prepared from end to end, and what has to come of it.

A row is sound, odd (used, and named in a notice), or refused: one line that names the
file and says what to do, and nothing prepared. Kinds of damage that end in the same
code are tested where that code is: `test_decode`, `test_catalogue`, `test_archives`.
"""

import io
import os
import pathlib
import stat
import struct
import unicodedata
import zipfile

import numpy as np
from PIL import Image
from PIL import PngImagePlugin
import pytest

from attnmel_jax import errors
from attnmel_jax import files
from tests.data import conftest
from tests.data.conftest import BLOCK
from tests.data.conftest import DATA
from tests.data.conftest import FEATURES
from tests.data.conftest import LABELS
from tests.data.conftest import LESIONS
from tests.data.conftest import encode
from tests.data.conftest import opened
from tests.data.conftest import prepared

JPG, MASK = 'ISIC_train0.jpg', 'ISIC_train0_segmentation.png'

SAME = ()  # outcome: what sound archives give


def _refused(*words: str) -> tuple:
  return ('refused', *words)


def _noticed(*words: str) -> tuple:
  return ('noticed', *words)


def _photograph(change, name=JPG):
  """Puts change(the decoded photograph) in place of the first one."""
  def mutate(archives):
    stored = archives[DATA].pop(JPG)
    archives[DATA][name] = change(Image.open(io.BytesIO(stored)))
  return mutate


def _file(content: bytes, name=JPG):
  return _photograph(lambda image: content, name)


def _mask(content: bytes):
  return lambda archives: archives[LESIONS].update({MASK: content})


def _table(old: bytes, new: bytes):
  def mutate(archives):
    assert old in archives[LABELS]
    archives[LABELS] = archives[LABELS].replace(old, new)
  return mutate


def _recoded(encoding: str, old: str = '', new: str = ''):
  def mutate(archives):
    text = archives[LABELS].decode().replace(old, new)
    archives[LABELS] = text.encode(encoding)
  return mutate


def _long_text(image: Image.Image) -> bytes:
  info = PngImagePlugin.PngInfo()
  info.add_text('comment', 'a' * (2 << 20), zip=True)
  return encode(image, pnginfo=info)


def _flipped(data: bytes) -> bytes:
  place = data.index(b'IDAT') + 30
  return data[:place] + bytes([data[place] ^ 1]) + data[place + 1:]


UNREADABLE = _refused(f'{JPG}: cannot be read')
PHOTOGRAPHS = {
    'a flipped bit in a PNG': (_photograph(lambda i: _flipped(encode(i))), UNREADABLE),
    'a PNG is called JPEG': (_photograph(encode), SAME),
    'a BMP is called JPEG': (_photograph(lambda i: encode(i, 'BMP')), SAME),
    'a GIF is called JPEG': (_photograph(lambda i: encode(i, 'GIF')),
                             _refused(f'{JPG}: is GIF, not JPEG', 'convert it')),
    'an iPhone photograph is called JPEG': (
        _file(b'\0\0\0\x24ftypheic\0\0\0\0mif1'), _refused(f'{JPG}: is HEIF')),
    'an error page is called JPEG': (_file(b'<!DOCTYPE html><title>404</title>'),
                                     UNREADABLE),
    'a TIFF has its own name': (  # passed over, so the label has no image
        _photograph(lambda i: encode(i, 'TIFF'), 'ISIC_train0.tif'),
        _refused(f'{LABELS}: label of ISIC_train0, but no image of it')),
    'alpha hides all': (
        _photograph(lambda i: (i.putalpha(0), encode(i))[1]), SAME),
    'EXIF is nonsense': (_photograph(lambda i: encode(i, exif=b'Exif\0\0nonsense')),
                         SAME),
    'an animation': (
        _photograph(lambda i: encode(i, save_all=True, append_images=[i.rotate(180)])),
        _refused(f'{JPG}: is an animation of 2 frames')),
    'a comment that unpacks to megabytes': (_photograph(_long_text), UNREADABLE),
}

BORDERS = 'train: masks whose inside touches all four borders of the image'
MASKS = {
    'inverted': (_mask(encode(255 - BLOCK)), _noticed(BORDERS, MASK)),
    'white below a transparent surround': (
        _mask(encode(np.dstack([BLOCK | 255] * 3 + [BLOCK]))),
        _noticed(BORDERS, MASK)),
    'empty': (_mask(encode(BLOCK * 0)), _noticed(
        'train: lesion masks without a lesion, kept as annotated and empty: 2')),
    'of 0 and 1 beside 0 and 255': (
        _mask(encode(BLOCK // 255)), _refused(f'{MASK}: holds 0 and 1, while')),
    'a JPEG': (_mask(encode(BLOCK, 'JPEG', quality=95)), SAME),
    'features without end': (lambda archives: archives[FEATURES].update(
        {'ISIC_train0_features.json': b'[' * 100_000}),
        _refused('ISIC_train0_superpixels.png: features are not JSON')),
    'features with a byte order mark': (lambda archives: archives[FEATURES].update(
        {'ISIC_train0_features.json':
         b'\xef\xbb\xbf' + archives[FEATURES]['ISIC_train0_features.json']}), SAME),
}

HEADER = b'image_id,melanoma,seborrheic_keratosis'
FIRST = b'ISIC_train0,1.0,0.0'
TABLES = {
    'UTF-16': (_recoded('utf-16'), _refused(f'{LABELS}: cannot be read', 'utf-8')),
    'semicolons': (_recoded('utf-8', ',', ';'),
                   _refused(f'{LABELS}: has no column image_id')),
    'byte order mark': (_recoded('utf-8-sig'), SAME),
    'line ends of Windows': (_recoded('utf-8', '\n', '\r\n'), SAME),
    'quotes': (_table(FIRST, b'"ISIC_train0","1.0","0.0"'), SAME),
    'blank lines and spaces': (_table(FIRST, b'\n ISIC_train0 , 1.0 , 0.0 \n\n'),
                               SAME),
    'trailing commas': (_recoded('utf-8', '\n', ',\n'), SAME),
    'a quote without end': (_table(FIRST, b'"' + FIRST),
                            _refused('no label', LABELS)),
    'a cell too many': (_table(FIRST, FIRST + b',1.0'),
                        _refused(f'{LABELS}: line 2 has more cells')),
    'a column twice': (_table(HEADER, HEADER + b',melanoma'),
                       _refused(f'{LABELS}: has two columns melanoma')),
    'no row': (lambda archives: archives.update({LABELS: HEADER + b'\n'}),
               _refused(f'{JPG}: no label in {LABELS}')),
    'NaN for a label': (_table(FIRST, b'ISIC_train0,NaN,0.0'),
                        _refused("unknown label melanoma='NaN' of ISIC_train0")),
    'ids of other case': (_table(b'ISIC_train0', b'isic_train0'),
                          _refused('label of isic_train0, but no image of it')),
    'a cell of 200 kB': (_table(FIRST, b'a' * 200_000), _refused(LABELS)),
    'no byte': (lambda archives: archives.update({LABELS: b''}), _refused(LABELS)),
    'a NUL': (_table(b'train0', b'tra\0in0'), _refused(LABELS)),
}


@pytest.fixture(scope='module')
def fingerprint(tmp_path_factory) -> str:
  """Of sound archives."""
  folder = tmp_path_factory.mktemp('sound')
  prepared(conftest.write(folder / 'source', conftest.split_archives('train', 4)),
           folder / 'data')
  return opened(folder / 'data').fingerprint


def _tree(folder: pathlib.Path) -> set[str]:
  return {str(path.relative_to(folder)) for path in folder.rglob('*')}


def _check(source, outcome, fingerprint, capsys) -> None:
  """Prepares `source`, of which nothing but `outcome` may come beside it."""
  root = source.parent
  data_dir = root / 'data'
  before = _tree(root)
  kind, *words = outcome or ('same',)
  if kind == 'refused':
    with pytest.raises(errors.UserError) as caught:
      prepared(source, data_dir)
    message = str(caught.value)
    assert '\n' not in message
    assert message.endswith('correct or remove them and prepare again')
    # Besides the list of bad files nothing is left, in or out of the folder.
    assert _tree(root) - before == {'data', *(
        f'data/isic2017{name}' for name in ('', '/.lock', '/bad_files.txt'))}
  else:
    capsys.readouterr()
    prepared(source, data_dir)
    message = capsys.readouterr().out
    assert opened(data_dir).has_lesion.tolist() == [True, True, False, True]
    if kind == 'same':
      assert opened(data_dir).fingerprint == fingerprint
    assert all(name.startswith('data') for name in _tree(root) - before)
    assert ('touches all four borders' in message) == (
        any(BORDERS in word for word in words))
  for word in words:
    assert word in message


def _repacked(change, **options):
  """Writes the zip of photographs anew; `change` may act on the first entry."""
  def mutate(source):
    with zipfile.ZipFile(source / DATA) as file:
      contents = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(source / DATA, 'w', **options) as file:
      for k, (name, content) in enumerate(contents.items()):
        info = zipfile.ZipInfo(name)
        info.compress_type = file.compression
        change(info, k)
        file.writestr(info, content)
  return mutate


def _patched(local: int, central: int, value: bytes):
  """Overwrites a field of the first entry, at its offsets in either header."""
  def mutate(source):
    data = bytearray((source / DATA).read_bytes())
    for start, offset in ((data.index(b'PK\3\4'), local),
                          (data.index(b'PK\1\2'), central)):
      data[start + offset:start + offset + len(value)] = value
    (source / DATA).write_bytes(data)
  return mutate


def _whole(content: bytes):
  return lambda source: (source / DATA).write_bytes(content)


def _linked(info, k):
  if k == 0:
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16


def _nothing(info, k):
  pass


OPENED = f'{DATA}: cannot be opened'
FIRST_ENTRY = f'{JPG}: cannot be read from its archive'
ZIPS = {
    'a link': (_repacked(_linked), _refused(f'{JPG}: is a link')),
    'deflate': (_repacked(_nothing, compression=zipfile.ZIP_DEFLATED), SAME),
    'bzip2': (_repacked(_nothing, compression=zipfile.ZIP_BZIP2),
              _refused(f'{JPG}: is not compressed with deflate')),
    'a password': (_patched(6, 8, struct.pack('<H', 1)),
                   _refused(FIRST_ENTRY, 'is encrypted, password required')),
    'a wrong checksum': (_patched(14, 16, b'\0\0\0\0'),
                         _refused(FIRST_ENTRY, 'Bad CRC-32')),
    'names that are marked as UTF-8 and are not': (
        lambda source: [_patched(6, 8, struct.pack('<H', 0x800))(source),
                        _patched(30, 46, b'\xff')(source)], _refused(OPENED, 'utf-8')),
    'an error page': (_whole(b'<!DOCTYPE html>' * 9),
                      _refused(OPENED, 'it is a web page')),
    'no entries': (_whole(b'PK\5\6' + b'\0' * 18),
                   _refused(f'{DATA}: holds 0 files, and none is called')),
    'a directory elsewhere': (
        _whole(b'PK\5\6' + struct.pack('<HHHHIIH', 0, 0, 1, 1, 46, 1 << 31, 0)),
        _refused(OPENED)),
}


def _odd_names(source):
  folder = source / DATA[:-4]
  os.mkfifo(folder / 'pipe.jpg')
  (folder / 'again').symlink_to(folder)


FOLDERS = {
    'a link to a photograph': (
        lambda source: [(source / DATA[:-4] / JPG).rename(source / 'x'),
                        (source / DATA[:-4] / JPG).symlink_to(source / 'x')], SAME),
    'a link that leads nowhere': (
        lambda source: [(source / LESIONS[:-4] / MASK).unlink(),
                        (source / LESIONS[:-4] / MASK).symlink_to('/no/such')],
        _refused(f'{LESIONS[:-4]}: cannot be opened', MASK)),
    'a pipe, and a link in a circle': (_odd_names, SAME),
    'a name that is no UTF-8': (
        lambda source: (source / DATA[:-4] / os.fsdecode(b'ISIC_\xff.jpg'))
        .write_bytes(b''), _refused('ISIC_\\udcff.jpg: its name is not UTF-8')),
    'a file that is too large': (
        lambda source: os.truncate(source / DATA[:-4] / JPG, (1 << 20) + 1),
        _refused(f'{JPG}: has 1048577 bytes, more than 1048576')),
}


@pytest.mark.parametrize('cases', [PHOTOGRAPHS | MASKS | TABLES, ZIPS, FOLDERS],
                         ids=['files', 'zips', 'folders'])
def test_what_comes_of_a_mutation(tmp_path, fingerprint, capsys, monkeypatch, subtests,
                                  cases):
  if cases is FOLDERS:
    monkeypatch.setattr(files, 'LARGEST', 1 << 20)
  for number, (name, (mutate, outcome)) in enumerate(cases.items()):
    with subtests.test(name):
      archives = conftest.split_archives('train', 4)
      source = tmp_path / str(number) / 'source'
      if cases in (ZIPS, FOLDERS):
        conftest.write(source, archives,
                       unpacked=(DATA, LESIONS) if cases is FOLDERS else ())
        mutate(source)
      else:
        mutate(archives)
        conftest.write(source, archives)
      _check(source, outcome, fingerprint, capsys)


def test_an_umlaut_may_be_stored_in_two_ways(tmp_path):
  for form in ('NFC', 'NFD'):
    archives = conftest.split_archives('train', 4)
    name = 'ISIC_größe①'
    for members in archives.values():
      if isinstance(members, dict):
        for old in [old for old in members if old.startswith('ISIC_train0')]:
          new = unicodedata.normalize(form, old.replace('ISIC_train0', name))
          members[new] = members.pop(old)
    archives[LABELS] = archives[LABELS].replace(b'ISIC_train0', name.encode())
    prepared(conftest.write(tmp_path / form, archives), tmp_path / form / 'data')
    split = opened(tmp_path / form / 'data')
    assert split.ids.tolist() == sorted([name, *(f'ISIC_train{k}' for k in (1, 2, 3))])
    assert split.labels[split.ids == name] == [0]
    assert split.has_lesion[split.ids == name].all()
