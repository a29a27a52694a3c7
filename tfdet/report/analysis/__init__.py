"""What is behind an AP: which errors cost it, at which scores, sizes and classes, on which images. Numpy alone."""
