"""Names that would be commands of Markdown."""

from attnmel_jax import markdown


def test_a_name_is_one_line_of_text():
  assert markdown.escaped('a_b *c*\n| <i>`x` [go](javascript:1)') == (
      r'a_b \*c\* \| \<i>\`x\` [go\](javascript:1)')
