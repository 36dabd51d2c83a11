"""The message of a mistake."""

import pytest

from attnmel_jax import errors


def test_an_unknown_value_is_named_with_the_known_ones():
  errors.check_choice('roi', 'lesion', ('none', 'lesion'))
  with pytest.raises(errors.UserError) as raised:
    errors.check_choice('roi', 'lession', iter(('none', 'lesion')))
  assert str(raised.value) == (
      "roi='lession' is unknown; choose one of 'none', 'lesion'")
