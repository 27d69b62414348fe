"""A class: submissions graded, the page about them, and the edition that a class gets."""
