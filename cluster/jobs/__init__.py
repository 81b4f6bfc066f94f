"""Ray jobs: submit, list, follow and stop them."""
