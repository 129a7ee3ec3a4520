"""Side-by-side benchmarks: one worker process for each package, driven in turns so that their runs interleave."""
