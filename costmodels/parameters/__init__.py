"""Parameters: of a layer, of the model, and of what one GPU holds.

Sharding follows Megatron-LM [1]_: query, key, value and the first feed-forward projection are
split by columns, output and second feed-forward projection by rows, the embedding by vocabulary;
norms, the router and the biases of row-parallel projections are on every rank.

References
----------
.. [1] M. Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using
   Model Parallelism," 2019, section 3. arXiv:1909.08053.
"""

from costmodels.parameters import layers, split, stages, whole

MODULES = (layers, whole, split, stages)
"""In the order of derivation."""
