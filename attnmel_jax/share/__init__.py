"""A trained run for others: photographs, files for other programs, pages."""
