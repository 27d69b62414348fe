"""Is never loaded."""
# says: no answer within 3 s: an endless loop\?

import time

time.sleep(50)
