import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # albumentations reads it at its import, and else calls the network
