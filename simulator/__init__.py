"""The same questions in simulated time, and the what-if entry of all faces."""
