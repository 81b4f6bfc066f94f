"""Storage of the real images of a group of classes, and batches drawn from them."""
