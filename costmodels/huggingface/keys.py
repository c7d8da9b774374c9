"""Keys of `config.json` that decide nothing here, and those that change the architecture."""

from typing import Any

HARMLESS = frozenset(
    {
        # what the file is, and how it was written
        *("_name_or_path", "architectures", "auto_map", "model_type", "transformers_version"),
        *("dtype", "torch_dtype", "_commit_hash", "name_or_path", "transformers.js_config"),
        *("_attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset"),
        *("_experts_implementation", "experts_implementation", "attn_implementation"),
        *("base_model_tp_plan", "base_model_pp_plan", "base_model_ep_plan", "unsloth_version"),
        *("unsloth_fixed", "torchscript", "tf_legacy_loss", "custom_generate"),
        # special tokens
        *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id"),
        *("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"),
        *("tokenizer_class", "prefix", "begin_suppress_tokens", "suppress_tokens"),
        # how training started and is regularized
        *("initializer_range", "init_std", "embedding_init_std", "layer_init_scale"),
        *("router_aux_loss_coef", "aux_loss_alpha", "router_z_loss_coef", "output_router_logits"),
        *(
            "router_jitter_noise",
            "seq_aux",
            "layerdrop",
            "activation_dropout",
            "label_smoothing",
            "z_loss_coefficient",
        ),
        # constants of elementwise operations
        *("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"),
        *("hidden_act", "hidden_activation", "activation_function", "activation", "pretraining_tp"),
        *("logit_scale", "logits_scaling", "embedding_multiplier", "residual_multiplier"),
        *("attention_multiplier", "query_pre_attn_scalar", "final_logit_softcapping", "clip_qkv"),
        *("attn_logit_softcapping", "swiglu_limit", "swiglu_alpha", "scale_attn_weights"),
        *("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "slow_but_exact"),
        *("attn_temperature_tuning", "floor_scale", "attn_scale", "softmax_scale"),
        *("full_attn_alpha_factor", "full_attn_beta_factor", "linear_attn_alpha_factor"),
        *("linear_attn_beta_factor", "mlp_alpha_factor", "mlp_beta_factor", "mamba_ssm_dtype"),
        *("layernorm_full_attention_alpha", "layernorm_full_attention_beta", "postnorm"),
        *("layernorm_linear_attention_alpha", "layernorm_linear_attention_beta"),
        *("layernorm_mlp_alpha", "layernorm_mlp_beta"),
        # how positions rotate: no parameters, no work that is counted
        *("rope_theta", "rope_scaling", "rope_parameters", "rope_ratio", "rope_interleave"),
        *("rotary_pct", "rotary_emb_base", "rotary_dim", "partial_rotary_factor", "rope_pct"),
        *("rope_local_base_freq", "initial_context_length", "mrope_interleaved", "swa_rope_theta"),
        *("original_max_position_embeddings", "no_rope_layers", "no_rope_layer_interval"),
        *("default_theta", "original_rope", "rotary_scaling_factor"),
        # how the router chooses: as many experts by any rule
        *("norm_topk_prob", "topk_method", "scoring_func", "n_group", "topk_group", "norm_min"),
        *("routed_scaling_factor", "router_scaling", "moe_router_activation", "score_function"),
        *("use_routing_bias", "moe_router_score_function", "router_dtype"),
        # what generation and its outputs do
        *("use_cache", "return_dict", "output_hidden_states", "output_attentions", "max_length"),
        *("min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "top_k"),
        *("diversity_penalty", "temperature", "top_p", "typical_p", "repetition_penalty"),
        *(
            "length_penalty",
            "no_repeat_ngram_size",
            "encoder_no_repeat_ngram_size",
            "bad_words_ids",
        ),
        *("num_return_sequences", "output_scores", "return_dict_in_generate", "exponential_decay"),
        *("exponential_decay_length_penalty", "remove_invalid_values", "cache_implementation"),
        *("chunk_size_feed_forward", "task_specific_params", "use_bfloat16"),
        *("is_decoder", "cross_attention_hidden_size", "tie_encoder_decoder"),
        # heads of other tasks
        *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
        *("classifier_dropout", "summary_type", "summary_use_proj", "summary_activation"),
        *("summary_proj_to_labels", "summary_first_dropout", "classifier_bias"),
        # how it was sharded or is run elsewhere
        *("ep_size", "gradient_checkpointing", "use_flash_attn", "_flash_attn_2_enabled"),
    }
)
"""Keys that change no count and no cost that is modelled."""

STRUCTURAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        (
            *("add_cross_attention", "is_encoder_decoder", "use_bidirectional_attention"),
            *("use_qk_norm", "qk_norm", "qk_layernorm", "use_parallel_residual", "parallel_attn"),
            *("attention_bias", "mlp_bias", "qkv_bias", "use_bias", "attn_output_gate"),
            *("use_sliding_window", "attention_k_eq_v", "use_double_wide_mlp", "alibi"),
            *("use_mla", "use_mtp", "enable_moe_block", "attention_chunk_size_enabled"),
            *("apply_residual_connection_post_layernorm", "mtp_use_dedicated_embeddings"),
            *("lm_head_bias", "use_attn_sink", "add_swa_attention_sink_bias"),
            *("add_full_attention_sink_bias", "use_post_norm", "sandwich_norm", "multi_query"),
        ),
        (False, 0),
    ),
    **dict.fromkeys(
        (
            *("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok"),
            *("n_shared_experts", "num_shared_experts", "shared_expert_intermediate_size"),
            *("moe_intermediate_size", "first_k_dense_replace", "moe_layer_freq", "moe_layers"),
            *(
                "decoder_sparse_step",
                "mlp_only_layers",
                "shared_intermediate_size",
                "moe_num_experts",
            ),
            *("interleave_moe_layer_step", "num_zero_experts", "zero_expert_num"),
            *("q_lora_rank", "kv_lora_rank", "o_lora_rank", "o_groups", "index_topk"),
            *("index_n_heads", "index_head_dim", "compress_ratios", "hc_mult", "num_hash_layers"),
            *("sliding_window", "sliding_window_pattern", "layer_types", "attention_chunk_size"),
            *(
                "attn_type_list",
                "full_attention_interval",
                "hybrid_layer_pattern",
                "attention_types",
            ),
            *("linear_num_key_heads", "linear_num_value_heads", "linear_attn_config"),
            *("num_nextn_predict_layers", "num_mtp_layers", "num_mtp_modules"),
            *("mtp_num_hidden_layers", "num_kv_shared_layers", "hidden_size_per_layer_input"),
            *("global_head_dim", "num_global_key_value_heads", "altup_num_inputs", "laurel_rank"),
            *(
                "swa_head_dim",
                "swa_num_key_value_heads",
                "swa_num_attention_heads",
                "mamba_d_state",
            ),
            *("mamba_num_heads", "ssm_cfg", "num_mem_heads", "num_memory_tokens", "window_size"),
            *("vocab_size_per_layer_input", "activation_sparsity_pattern", "num_nope_layers"),
            *(
                "pruned_heads",
                "block_configs",
                "num_attention_groups",
                "num_heads_per_layer",
                "per_layer_config",
            ),
        ),
        (0, [], {}),
    ),
}
"""Keys known to change the architecture, with values that mean they do not.

A family that models such a key reads it; left unread with another value, it is refused.
"""

QUANTIZATION = frozenset(
    {
        *("damp_percent", "desc_act", "static_groups", "true_sequential", "version", "backend"),
        *("model_name_or_path", "model_file_base_name", "is_marlin_format", "checkpoint_format"),
        *("batch_size", "block_name_to_quantize", "cache_block_outputs", "dataset", "tokenizer"),
        *("max_input_length", "use_cuda_fp16", "use_exllama", "exllama_config", "pad_token_id"),
        *(
            "model_seqlen",
            "module_name_preceding_first_block",
            "meta",
            "pack_dtype",
            "disable_exllama",
        ),
        *("quantizer", "do_fuse", "fuse_max_seq_len", "modules_to_fuse", "quantization_status"),
        *("global_compression_ratio", "kv_cache_scheme", "sparsity_config", "transform_config"),
        *("producer", "quant_library", "dequantize", "lm_head", "act_group_aware", "scale_fmt"),
        *("llm_int8_threshold", "llm_int8_has_fp16_weight", "llm_int8_enable_fp32_cpu_offload"),
        *("bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "_load_in_4bit", "_load_in_8bit"),
        *("autoround_version", "iters", "nsamples", "seqlen", "amp", "low_gpu_mem_usage", "lr"),
    }
)
"""Keys of a quantization section that change neither bits nor scales."""
