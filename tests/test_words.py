"""The words of the package keep the rules of `tests/words.py`."""

import ast

from tests import words


def test_no_name_docstring_or_line_breaks_the_rules():
    assert words.find_all() == []


def test_at_most_20_names_may_repeat():
    assert len(words.ALLOWED_REPETITIONS) <= 20


def test_a_fragment_an_old_name_and_a_function_without_a_verb_are_found():
    path = words.PACKAGE / "nn" / "invented.py"
    source = '''
def told(x):
    """Of each group."""

def load(slope):
    """The array of a file."""
'''
    tree = ast.parse(source)
    found = [*words.check_docstrings(path, tree), *words.check_names(path, tree)]
    assert {line.split(": ", 1)[1] for line in found} == {
        "'Of each group.' is a fragment",
        "'The array of a file.' does not begin with a verb",
        "told is a name of version 0.1",
        "told is no verb phrase",
        "slope is a name of version 0.1",
    }


def test_a_name_with_two_meanings_is_found():
    trees = {
        words.PACKAGE / "nn" / name: ast.parse("class Layer: ...\n") for name in ("a.py", "b.py")
    }
    first, *_ = words.find_repetitions(trees)
    assert first.endswith("Layer is defined in inception_jax/nn/b.py:1 too")
