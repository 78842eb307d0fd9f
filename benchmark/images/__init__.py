"""Images: where they come from, how they are stored, how they are augmented."""

# Larger images are resized one by one on a CPU. Their raw pixels are stored interleaved: the three
# channels of a pixel side by side.
LARGE_PIXELS = 1 << 14
