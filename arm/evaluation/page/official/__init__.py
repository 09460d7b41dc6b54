"""Other authors' benchmarks on the report page: our numbers beside the published ones, bars, samples, a baseline, the cost."""
