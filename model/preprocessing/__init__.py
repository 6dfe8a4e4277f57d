"""From image bytes to pixels to network input, the same in training and serving."""
