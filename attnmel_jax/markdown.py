"""Names from outside in pages of Markdown."""

import re


def escaped(text: str) -> str:
  """Text in one line without any character that Markdown takes for a command."""
  # An underscore within a word is no emphasis; a link needs `](`.
  return re.sub(r'[\\`*|<]|(?<!\w)_|_(?!\w)|\](?=\()',
                lambda found: '\\' + found[0], ' '.join(text.split()))
