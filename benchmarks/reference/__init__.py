"""References of the benchmarks: our own plain code, built as the methods' first implementations were."""
