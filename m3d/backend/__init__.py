"""How the step is computed: device, precision, compiler, and their cost."""
