"""How a tensor lies in memory, by a name that a case can say: sizes -> strides, in elements; for `normal(strides=)`."""

MATRIX = {  # [m, n]
    "rows": lambda m, n: (n, 1),
    "columns": lambda m, n: (1, m),
    "padded": lambda m, n: (n + 24, 1),
    "every_other": lambda m, n: (4 * n, 2),
    "same_rows": lambda m, n: (0, 1),
    "same_columns": lambda m, n: (1, 0),
    "same": lambda m, n: (0, 0),  # one number: the gradient that a sum hands down
}
HEADS = {  # [batch, h heads, s tokens, d], whatever the batch
    "heads": lambda h, s, d: (h * s * d, s * d, d, 1),
    "tokens": lambda h, s, d: (s * h * d, d, h * d, 1),  # tokens hold their heads side by side
    "packed": lambda h, s, d: (3 * s * h * d, d, 3 * h * d, 1),  # and q, k and v of them all
    "padded": lambda h, s, d: (h * s * (d + 24), s * (d + 24), d + 24, 1),
    "turned": lambda h, s, d: (h * d * s, d * s, 1, s),
    "every_other": lambda h, s, d: (4 * s * h * d, 4 * d, 4 * h * d, 2),
    "one_head": lambda h, s, d: (s * d, 0, d, 1),
    "one_batch": lambda h, s, d: (0, d, h * d, 1),
    "same": lambda h, s, d: (0, 0, 0, 0),
}
