"""The grading library of the Triton Mastery Workbook."""

RUNGS = ("correct", "compiles", "moves", "fast")  # the ladder
