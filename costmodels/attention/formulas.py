"""What the functions of attention layouts compute, as expressions for people.

A test evaluates each beside its function.
"""

from collections.abc import Mapping
from types import MappingProxyType

_BIASES = (
    "attention_bias * (attention_output_gate * num_attention_heads + num_attention_heads"
    " + 2 * num_key_value_heads) * head_size + query_key_norm_is_full * (num_attention_heads"
    " + num_key_value_heads) * head_size * (1 + norm_is_layernorm)"
)

FORMULAS: Mapping[str, str] = MappingProxyType(
    {
        "softmax_matrix_parameters": "hidden_size * ((2 + attention_output_gate)"
        " * num_attention_heads + 2 * num_key_value_heads) * head_size",
        "latent_matrix_parameters": "num_attention_heads * ((query_rank + (query_rank == 0)"
        " * hidden_size) * (unrotated_size + rotated_size) + key_value_rank * (unrotated_size"
        " + value_size) + value_size * hidden_size)",
        "gated_delta_matrix_parameters": "hidden_size * (2 * key_heads * key_head_size"
        " + 3 * value_heads * value_head_size + 2 * value_heads)",
        "lightning_matrix_parameters": "5 * hidden_size * num_attention_heads * head_size",
        "softmax_vector_parameters": f"{_BIASES} + attention_sinks * num_attention_heads",
        "infini_vector_parameters": f"{_BIASES} + attention_sinks * num_attention_heads"
        " + num_attention_heads + 2 * decayed * num_key_value_heads",
        "latent_vector_parameters": "0",
        "gated_delta_vector_parameters": "(2 * key_heads * key_head_size + value_heads"
        " * value_head_size) * convolution_width + 2 * value_heads",
        "lightning_vector_parameters": "num_attention_heads * head_size",
        "softmax_whole_parameters": "attention_output_bias * hidden_size"
        " + query_key_norm_is_head * 2 * head_size * (1 + norm_is_layernorm)",
        "compressive_whole_parameters": "attention_output_bias * hidden_size"
        " + query_key_norm_is_head * 2 * head_size * (1 + norm_is_layernorm)"
        " + hidden_size * hidden_size * compression_rate + hidden_size",
        "latent_whole_parameters": "(hidden_size + attention_bias) * (query_rank + key_value_rank"
        " + rotated_size) + query_rank + key_value_rank + attention_output_bias * hidden_size",
        "gated_delta_whole_parameters": "value_head_size",
        "lightning_whole_parameters": "0",
        "softmax_query_size": "head_size",
        "latent_query_size": "unrotated_size + rotated_size",
        "softmax_value_size": "head_size",
        "latent_value_size": "value_size",
        "softmax_projected_elements": "((2 + attention_output_gate) * num_attention_heads"
        " + 2 * held_key_value_head_count) * head_size",
        "latent_projected_elements": "num_attention_heads * (2 * unrotated_size + rotated_size"
        " + 2 * value_size)",
        "softmax_compressed_elements": "0",
        "latent_compressed_elements": "2 * (query_rank + key_value_rank) + rotated_size",
        "softmax_rotated_elements": "(2 * (positions_is_rotary + 1 - query_key_norm_is_none)"
        " * (num_attention_heads + held_key_value_head_count) + 3 * attention_output_gate"
        " * num_attention_heads) * head_size",
        "latent_rotated_elements": "num_attention_heads * (3 * rotated_size + 2 * unrotated_size)",
        "softmax_kept_elements": "((3 - query_key_norm_is_none) * (num_attention_heads"
        " + held_key_value_head_count) + 2 * attention_output_gate * num_attention_heads) * head_size",
        "latent_kept_elements": "num_attention_heads * (2 * (unrotated_size + rotated_size)"
        " + unrotated_size + 2 * value_size)",
        "softmax_kept_compressed_elements": "0",
        "latent_kept_compressed_elements": "2 * (query_rank + key_value_rank) + rotated_size",
        "softmax_compressing_parameters": "0",
        "gated_delta_query_size": "key_head_size",
        "gated_delta_value_size": "value_head_size",
        "gated_delta_projected_elements": "2 * key_heads * key_head_size"
        " + 3 * value_heads * value_head_size + 2 * value_heads",
        "gated_delta_rotated_elements": "6 * key_heads * key_head_size"
        " + 5 * value_heads * value_head_size + 2 * value_heads * key_head_size"
        " + 4 * value_heads",
        "gated_delta_kept_elements": "6 * key_heads * key_head_size"
        " + 5 * value_heads * value_head_size + 4 * value_heads",
        "lightning_projected_elements": "5 * num_attention_heads * head_size",
        "lightning_rotated_elements": "11 * num_attention_heads * head_size",
        "lightning_kept_elements": "10 * num_attention_heads * head_size",
        "latent_compressing_parameters": "hidden_size * (query_rank + key_value_rank"
        " + rotated_size)",
    }
)
"""Expression of each function of `projections` and `elements`, by its name."""
