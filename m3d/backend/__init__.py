"""How the step is computed: device, precision, compiler, and what it costs."""
