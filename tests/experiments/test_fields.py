"""Every field by itself: its type, its bounds."""

import pytest

from attnmel_jax import errors
from attnmel_jax.experiments import fields
from configs import common


def test_all_fields_are_known():
  assert common.get_config().to_dict().keys() == fields.NAMES


def test_a_config_of_other_fields_or_without_some_passes():
  fields.check({'seed': 1, 'of_tomorrow': object()})


@pytest.mark.parametrize('field', sorted(fields.NAMES))
@pytest.mark.parametrize('value', [None, b'x', {}, [], {'a': 1}])
def test_no_field_may_be_of_a_kind_that_none_is(field, value):
  with pytest.raises(errors.UserError, match=f'^{field}=') as caught:
    fields.check({field: value})
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('change, words', [
    ({'width': '0.8) or exit() or int(1'}, 'holds str; give int or float'),
    ({'seed': 1.0}, 'holds float; give int'), ({'seed': True}, 'holds bool; give int'),
    ({'tta': 1}, 'of type int; give bool'), ({'data_dir': 3}, 'of type int; give str'),
    ({'dataset': 'x\n<b>'}, 'choose one of'), ({'model': 3}, 'of type int; give str'),
    ({'width': 1e18}, 'must be above 0 and at most 16'),
    ({'width': 10**400}, 'at most 16'),
    ({'num_epochs': 10**21}, 'must be at least 1 and at most 1000000'),
    ({'oversample_factors': (10**12, 1, 1)}, 'at least 1 and at most 1000'),
    ({'oversample_factors': (0, 1, 1)}, 'must be at least 1'),
    ({'bootstrap_draws': 10**12}, 'at most 1000000'),
    ({'learning_rate': 1e39}, 'at most 1000000'), ({'weight_decay': 1e300}, 'at most'),
    ({'decay_factor': 1e300}, 'at most 1000'), ({'focal_gamma': 1e300}, 'at most 100'),
    ({'dice_weights': (0.1, float('nan'))}, 'must be finite'),
    ({'dice_weights': 0.1}, 'of type float; give tuple'),
    ({'dermo_attributes': ('streaks', 'streaks')}, 'names one twice'),
    ({'seed': 2**32}, 'below 4294967296'), ({'crop_ratio': 0.0}, 'must be above 0')])
def test_values_out_of_bounds_are_named(change, words):
  (name, _), = change.items()
  with pytest.raises(errors.UserError, match=f'^{name}=.*{words}'):
    fields.check(change)
