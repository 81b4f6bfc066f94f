"""Where the real images of a class are held, and how batches of them are drawn."""
