"""What a lesion of each diagnosis looks like, as a table of distributions.

A row of `DIAGNOSES` is all that is known about a diagnosis; how it is drawn
stands in `lesion`, which archives it goes into in `generate`. Rows
overlap on purpose: there are regular melanomas and restless nevi. Nothing in a
row changes the lesion's area, mean colour or place: those have one distribution
for all, so that only structure tells the diagnoses apart (the A, B, C and D of
the ABCD rule: asymmetry, border, colours, differential structures).
"""

import dataclasses
from typing import NamedTuple

import numpy as np

# Absorption (natural optical density per channel, relative to bare skin) of the
# six colours of the ABCD rule and of the yellow-grey of keratin.
COLOURS = {
    'light_brown': (0.22, 0.50, 0.72),
    'dark_brown': (0.75, 1.25, 1.55),
    'black': (1.90, 2.15, 2.20),
    'red': (0.25, 0.85, 0.82),
    'blue_grey': (1.00, 0.88, 0.70),
    'white': (0.00, -0.04, -0.06),
    'yellow_grey': (0.30, 0.47, 0.74),
}


class Amount(NamedTuple):
  """Uniform in [low, high] with probability `chance`, otherwise 0."""

  chance: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Diagnosis:
  """Distribution of every property of a lesion; see `Look` for their meaning."""

  malignant: bool
  palette: dict[str, float]  # weight of each colour beside the base colour
  asymmetry: Amount
  irregularity: Amount
  notches: Amount
  elongation: Amount
  rim: Amount
  rim_variation: Amount
  colours: Amount
  eccentricity: Amount
  network: Amount
  network_irregularity: Amount
  negative_network: Amount
  globules: Amount
  globule_irregularity: Amount
  streaks: Amount
  milia: Amount
  comedones: Amount
  ridges: Amount


@dataclasses.dataclass(frozen=True)
class Look:
  """One lesion's properties, drawn from its diagnosis."""

  asymmetry: float         # 0 an ellipse ... 1 lobes far from the centre
  irregularity: float      # 0 smooth outline ... 1 map-like outline
  notches: float           # number of bites out of the border
  elongation: float        # long over short axis
  rim: float               # width of the fading edge over the radius
  rim_variation: float     # 0 same all around ... 1 abrupt here, fading there
  colours: float           # number of colours, base colour included
  eccentricity: float      # 0 colours in rings ... 1 colours on one side
  network: float           # contrast of the dark mesh
  network_irregularity: float  # 0 honeycomb ... 1 thick, uneven, patchy
  negative_network: float  # contrast of the light mesh
  globules: float          # contrast of brown globules
  globule_irregularity: float  # 0 even cobblestones ... 1 any size, one side
  streaks: float           # number of radial lines at the border
  milia: float             # number of milia-like cysts
  comedones: float         # number of comedo-like openings
  ridges: float            # contrast of cerebriform fissures
  palette: tuple[str, ...]  # colours beside the base colour, outermost first


DIAGNOSES = {
    'melanoma': Diagnosis(
        malignant=True,
        palette={'dark_brown': 1.0, 'black': 1.0, 'blue_grey': 1.0, 'red': 0.7,
                 'white': 0.7},
        asymmetry=Amount(0.90, 0.15, 0.95),
        irregularity=Amount(1.0, 0.12, 0.85),
        notches=Amount(0.45, 1, 3.5),
        elongation=Amount(1.0, 1.0, 1.6),
        rim=Amount(1.0, 0.05, 0.22),
        rim_variation=Amount(1.0, 0.3, 1.0),
        colours=Amount(1.0, 2.0, 6.0),
        eccentricity=Amount(1.0, 0.35, 1.0),
        network=Amount(0.75, 0.5, 1.0),
        network_irregularity=Amount(1.0, 0.45, 1.0),
        negative_network=Amount(0.22, 0.6, 1.0),
        globules=Amount(0.55, 0.5, 1.0),
        globule_irregularity=Amount(1.0, 0.5, 1.0),
        streaks=Amount(0.45, 10, 34),
        milia=Amount(0.05, 2, 6),
        comedones=Amount(0.03, 1, 4),
        ridges=Amount(0.05, 0.2, 0.5)),
    'seborrheic_keratosis': Diagnosis(
        malignant=False,
        palette={'yellow_grey': 1.0, 'dark_brown': 0.8, 'red': 0.25,
                 'blue_grey': 0.1},
        asymmetry=Amount(0.75, 0.0, 0.55),
        irregularity=Amount(1.0, 0.08, 0.55),
        notches=Amount(0.25, 1, 2),
        elongation=Amount(1.0, 1.0, 1.6),
        rim=Amount(1.0, 0.03, 0.09),
        rim_variation=Amount(1.0, 0.0, 0.4),
        colours=Amount(1.0, 1.0, 3.4),
        eccentricity=Amount(1.0, 0.1, 0.7),
        network=Amount(0.12, 0.2, 0.5),
        network_irregularity=Amount(1.0, 0.2, 0.8),
        negative_network=Amount(0.0, 0.0, 0.0),
        globules=Amount(0.08, 0.2, 0.5),
        globule_irregularity=Amount(1.0, 0.2, 0.9),
        streaks=Amount(0.0, 0.0, 0.0),
        milia=Amount(0.75, 4, 30),
        comedones=Amount(0.70, 3, 22),
        ridges=Amount(0.65, 0.4, 1.0)),
    'nevus': Diagnosis(
        malignant=False,
        palette={'dark_brown': 1.0, 'light_brown': 0.6, 'red': 0.22,
                 'blue_grey': 0.06, 'white': 0.03},
        asymmetry=Amount(0.80, 0.0, 0.50),
        irregularity=Amount(1.0, 0.04, 0.55),
        notches=Amount(0.15, 1, 2.5),
        elongation=Amount(1.0, 1.0, 1.6),
        rim=Amount(1.0, 0.12, 0.42),
        rim_variation=Amount(1.0, 0.0, 0.4),
        colours=Amount(1.0, 1.0, 3.6),
        eccentricity=Amount(1.0, 0.0, 0.6),
        network=Amount(0.75, 0.3, 0.8),
        network_irregularity=Amount(1.0, 0.0, 0.45),
        negative_network=Amount(0.04, 0.4, 0.8),
        globules=Amount(0.40, 0.4, 0.9),
        globule_irregularity=Amount(1.0, 0.0, 0.5),
        streaks=Amount(0.05, 10, 26),
        milia=Amount(0.05, 1, 5),
        comedones=Amount(0.04, 1, 4),
        ridges=Amount(0.03, 0.2, 0.5)),
    'basal_cell_carcinoma': Diagnosis(
        malignant=True,
        palette={'blue_grey': 1.0, 'red': 1.0, 'white': 0.5, 'dark_brown': 0.4},
        asymmetry=Amount(0.85, 0.1, 0.7),
        irregularity=Amount(1.0, 0.1, 0.6),
        notches=Amount(0.3, 1, 2.5),
        elongation=Amount(1.0, 1.0, 1.6),
        rim=Amount(1.0, 0.05, 0.2),
        rim_variation=Amount(1.0, 0.2, 0.8),
        colours=Amount(1.0, 1.5, 4.5),
        eccentricity=Amount(1.0, 0.3, 0.9),
        network=Amount(0.03, 0.2, 0.4),
        network_irregularity=Amount(1.0, 0.2, 0.8),
        negative_network=Amount(0.0, 0.0, 0.0),
        globules=Amount(0.70, 0.5, 1.0),
        globule_irregularity=Amount(1.0, 0.6, 1.0),
        streaks=Amount(0.10, 6, 16),
        milia=Amount(0.15, 1, 5),
        comedones=Amount(0.03, 1, 3),
        ridges=Amount(0.0, 0.0, 0.0)),
    'actinic_keratosis': Diagnosis(
        malignant=False,
        palette={'red': 1.0, 'white': 0.8, 'yellow_grey': 0.7, 'light_brown': 0.4},
        asymmetry=Amount(0.85, 0.1, 0.8),
        irregularity=Amount(1.0, 0.2, 0.8),
        notches=Amount(0.35, 1, 3),
        elongation=Amount(1.0, 1.0, 1.6),
        rim=Amount(1.0, 0.18, 0.45),
        rim_variation=Amount(1.0, 0.2, 0.8),
        colours=Amount(1.0, 1.5, 4.0),
        eccentricity=Amount(1.0, 0.2, 0.8),
        network=Amount(0.20, 0.2, 0.5),
        network_irregularity=Amount(1.0, 0.4, 1.0),
        negative_network=Amount(0.05, 0.3, 0.6),
        globules=Amount(0.10, 0.2, 0.5),
        globule_irregularity=Amount(1.0, 0.3, 1.0),
        streaks=Amount(0.0, 0.0, 0.0),
        milia=Amount(0.05, 1, 4),
        comedones=Amount(0.55, 3, 14),
        ridges=Amount(0.10, 0.2, 0.5)),
    'dermatofibroma': Diagnosis(
        malignant=False,
        palette={'white': 1.0, 'light_brown': 1.0, 'red': 0.4},
        asymmetry=Amount(0.60, 0.0, 0.3),
        irregularity=Amount(1.0, 0.02, 0.25),
        notches=Amount(0.05, 1, 2),
        elongation=Amount(1.0, 1.0, 1.4),
        rim=Amount(1.0, 0.25, 0.5),
        rim_variation=Amount(1.0, 0.0, 0.3),
        colours=Amount(1.0, 1.5, 3.0),
        eccentricity=Amount(1.0, 0.0, 0.2),
        network=Amount(0.80, 0.2, 0.5),
        network_irregularity=Amount(1.0, 0.0, 0.3),
        negative_network=Amount(0.35, 0.5, 0.9),
        globules=Amount(0.15, 0.2, 0.5),
        globule_irregularity=Amount(1.0, 0.0, 0.4),
        streaks=Amount(0.0, 0.0, 0.0),
        milia=Amount(0.03, 1, 4),
        comedones=Amount(0.0, 0.0, 0.0),
        ridges=Amount(0.0, 0.0, 0.0)),
    'vascular_lesion': Diagnosis(
        malignant=False,
        palette={'red': 1.0, 'blue_grey': 0.6, 'black': 0.3},
        asymmetry=Amount(0.70, 0.0, 0.45),
        irregularity=Amount(1.0, 0.02, 0.35),
        notches=Amount(0.1, 1, 2),
        elongation=Amount(1.0, 1.0, 1.5),
        rim=Amount(1.0, 0.02, 0.08),
        rim_variation=Amount(1.0, 0.0, 0.2),
        colours=Amount(1.0, 1.5, 3.5),
        eccentricity=Amount(1.0, 0.0, 0.5),
        network=Amount(0.0, 0.0, 0.0),
        network_irregularity=Amount(1.0, 0.0, 0.5),
        negative_network=Amount(0.0, 0.0, 0.0),
        globules=Amount(0.90, 0.6, 1.0),
        globule_irregularity=Amount(1.0, 0.0, 0.3),
        streaks=Amount(0.0, 0.0, 0.0),
        milia=Amount(0.0, 0.0, 0.0),
        comedones=Amount(0.0, 0.0, 0.0),
        ridges=Amount(0.0, 0.0, 0.0)),
}


def sample(rng: np.random.Generator, diagnosis: Diagnosis) -> Look:
  """Draws one lesion's properties from a row of the table."""
  values = {}
  for field in dataclasses.fields(diagnosis):
    amount = getattr(diagnosis, field.name)
    if isinstance(amount, Amount):
      chance, low, high = amount
      # Both numbers are always drawn: a changed chance moves no other property.
      present, value = rng.random() < chance, rng.uniform(low, high)
      values[field.name] = float(value) if present else 0.0
  names = list(diagnosis.palette)
  weights = np.array(list(diagnosis.palette.values()))
  extra = min(max(round(values['colours']) - 1, 0), len(names))
  chosen = rng.choice(len(names), extra, replace=False, p=weights / weights.sum())
  return Look(**values, palette=tuple(names[k] for k in chosen))
