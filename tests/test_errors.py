"""The message of a mistake."""

import pathlib

import pytest

from attnmel_jax import errors


def test_an_unknown_value_is_named_with_the_known_ones():
  errors.check_choice('roi', 'lesion', ('none', 'lesion'))
  with pytest.raises(errors.UserError) as raised:
    errors.check_choice('roi', 'lession', iter(('none', 'lesion')))
  assert str(raised.value) == (
      "roi='lession' is unknown; choose one of 'none', 'lesion'")


def test_a_home_folder_of_nobody_is_named():
  assert errors.expanded('~') == pathlib.Path.home()
  assert errors.expanded('a/~b') == pathlib.Path('a/~b')
  with pytest.raises(errors.UserError, match='^~nobody_at_all/x names the home folder'):
    errors.expanded('~nobody_at_all/x')
