"""Ground truth and anchors or proposals in, labels and regression targets out. No gradient flows through them."""
