"""The grading library of the Triton Mastery Workbook."""
