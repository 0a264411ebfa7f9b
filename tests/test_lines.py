"""The count of code lines leaves out what is no code."""

from tests.lines import count_lines


def test_blank_lines_comments_and_docstrings_are_no_code():
    source = '"""One.\n\nTwo."""\n\n# three\nx = """a\n\nb"""\n\n\n'
    source += 'def f():\n    """Returns\n    nothing."""\n    return (\n        1  # one\n    )\n'
    assert count_lines(source) == 3 + 1 + 3
