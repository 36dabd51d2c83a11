"""Lesions that are one under two names."""

from attnmel_jax.data import copies


def test_lesions_of_one_photograph_have_one_name():
  ids = ['ISIC_0025226', 'ISIC_0030074', 'ISIC_0000001', 'ISIC_0000002', 'ISIC_0029036']
  groups = ['HAM_0004919', 'HAM_0000140', 'HAM_0004919', 'HAM_0000002', 'HAM_0000955']
  assert copies.join_lesions(ids, groups).tolist() == [
      'HAM_0000140', 'HAM_0000140', 'HAM_0000140', 'HAM_0000002', 'HAM_0000955']


def test_chains_and_known_lesions(monkeypatch):
  monkeypatch.setattr(
      copies, '_PAIRS', (('a', 'b'), ('c', 'b'), ('d', 'a'), ('e', 'f')))
  assert copies.join_lesions('abcdef', 'ABCDEE').tolist() == list('AAAAEE')
  assert copies.join_lesions('bd', 'BD').tolist() == list('BD')


def test_each_pair_is_listed_once():
  pairs = [frozenset(pair) for pair in copies._PAIRS]
  assert len(set(pairs)) == len(pairs) == 25
  assert all(len(pair) == 2 for pair in pairs)
