"""The config that experiment files start from. docs/config.md lists its fields.

Override one on the command line with `--config.<field>=<value>`; tuples take Python
syntax, `--config.dice_weights='(0.01, 0.1)'`.
"""

from attnmel_jax import config


def get_config():
  """The released code's recipe, for ISIC 2017, without a prior."""
  return config.defaults()
