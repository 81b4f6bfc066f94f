"""The source of Parquet files: its columns, its labels and classes, and one file of it, read within bounded memory."""
