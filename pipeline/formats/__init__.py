"""What stages leave each other, readable without Ray."""
