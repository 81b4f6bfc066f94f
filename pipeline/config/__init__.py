"""Settings: their types, parsing, presets and validation."""
