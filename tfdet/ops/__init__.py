"""Pure functions on boxes and feature maps: no weights, no configuration, no state.

Everything is batched, computes in float32 whatever the precision policy, and runs eagerly or inside `tf.function`
with shapes that are not known beforehand. Box coordinates are `[x1, y1, x2, y2]` in pixels of the network input.
"""
