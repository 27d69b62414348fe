"""Never returns, in Python."""
# says: no answer within 3 s: an endless loop\?

import time

end = time.monotonic() + 50


def add(x, y):
    while time.monotonic() < end:
        pass
