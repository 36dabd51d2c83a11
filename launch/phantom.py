"""Draws synthetic dermoscopy and writes it as official ISIC archives.

  python launch/phantom.py --year=2017 --out=DIR
  python launch/phantom.py --out=DIR --artefact_bias=sticker=0.9,test:sticker=-0.9
  python launch/phantom.py --photographs --out=DIR      # a folder with a table
"""

import os
import pathlib
import sys

# Python puts launch/ on the path; the packages lie one folder above it.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags

from attnmel_jax import errors
from attnmel_jax.phantom import artefacts
from attnmel_jax.phantom import generate
from attnmel_jax.phantom import own_folder

_YEAR = flags.DEFINE_integer(
    'year', 2017, 'challenge whose archives are written: 2016, 2017 or 2018')
_OUT = flags.DEFINE_string('out', '', 'folder for the archives')
_DEFAULTS = {'train': 400, 'validation': 100, 'test': 200, 'segmentation': 100}
_COUNTS = {
    'train': flags.DEFINE_integer('train', None, 'training images; default 400'),
    'validation': flags.DEFINE_integer(
        'validation', None, 'validation images; default 100, none in 2016'),
    'test': flags.DEFINE_integer('test', None, 'test images; default 200'),
    'segmentation': flags.DEFINE_integer(
        'segmentation', None, 'images of Tasks 1 and 2; default 100, only in 2018')}
_SIZE = flags.DEFINE_integer('size', 300, 'shorter image side in pixels')
_SEED = flags.DEFINE_integer('seed', 0, 'random seed; another draws another data set')
_BIAS = flags.DEFINE_multi_string(
    'artefact_bias', [],
    'how strongly artefacts go with the class, from 0 (not at all) to 1 (entirely); '
    'negative: on the side opposite to that of real data. One number for all, or a '
    'list as sticker=0.9,ruler=0.5; a split goes first, as in '
    'sticker=0.9,test:sticker=-0.9; may be repeated')
_WORKERS = flags.DEFINE_integer(
    'workers', os.cpu_count() or 1, 'number of drawing processes; does not change '
    'the images')
_PHOTOGRAPHS = flags.DEFINE_bool(
    'photographs', False, 'instead of archives write photos/, masks/ and labels.csv, '
    'for prepare.py --dataset=folder')


def main() -> None:
  """Checks the flags and calls the library."""
  if not _OUT.value:
    raise errors.UserError('--out is missing; give a folder for the archives')
  counts = {split: _DEFAULTS[split] for split in generate.splits(_YEAR.value)}
  counts |= {split: flag.value for split, flag in _COUNTS.items()
             if flag.value is not None}
  bias = artefacts.parse_bias(_BIAS.value, tuple(counts))
  out = command.path(_OUT.value)
  drawn = {'year': _YEAR.value, 'counts': counts, 'size': _SIZE.value,
           'seed': _SEED.value, 'artefact_bias': bias}
  if _PHOTOGRAPHS.value:
    if flags.FLAGS[_WORKERS.name].present:
      raise errors.UserError('--workers works only for archives; leave it out with '
                             '--photographs')
    written = own_folder.write(out, **drawn)
  else:
    written = generate.write_archives(out, **drawn, workers=_WORKERS.value)
  for split, classes in written.items():
    print(f'{split}: ' + ', '.join(f'{n} {name}' for name, n in classes.items()))
  kind = ('photographs' if _PHOTOGRAPHS.value
          else f'archives for ISIC {_YEAR.value}')
  print(f'synthetic {kind} are in {out}')


if __name__ == '__main__':
  command.run(main)
