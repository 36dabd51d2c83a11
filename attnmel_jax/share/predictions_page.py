"""The page of predicted photographs: one HTML file beside their pictures."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any
import urllib.parse

import jinja2

from attnmel_jax import files


@dataclasses.dataclass(frozen=True)
class Row:
  """One photograph."""

  name: str
  path: str
  overlay: str  # beside the page; '' where none was drawn
  probabilities: tuple[float, ...]

  @property
  def best(self) -> int:
    """The likeliest class."""
    return self.probabilities.index(max(self.probabilities))

  @property
  def link(self) -> str:
    """The overlay as an address: a name may hold any character."""
    return urllib.parse.quote(self.overlay)


def write(path: pathlib.Path, rows: Sequence[Row],
          unreadable: Sequence[tuple[str, str]], class_names: Sequence[str],
          settings: Mapping[str, Any]) -> None:
  """Writes the page; every name in it is escaped.

  Args:
    path: of the page.
    rows: the photographs, in order.
    unreadable: path and reason of the others.
    class_names: of the probabilities.
    settings: `photographs.describe`.
  """
  environment = jinja2.Environment(
      loader=jinja2.PackageLoader('attnmel_jax.share'), autoescape=True,
      undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
  page = environment.get_template('photographs.html').generate(
      rows=rows, unreadable=unreadable, class_names=class_names, settings=settings)
  with files.replacing(path) as file:
    for part in page:
      file.write(part.encode())
