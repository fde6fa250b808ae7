"""Keys of SAELens' cfg.json, versions 1 to 6, that change nothing about a latent's value."""

from __future__ import annotations

# How the numbers were stored, by which program, and where they lay.
_STORAGE = (
    *("dtype", "device", "sae_lens_version", "sae_lens_training_version", "neuronpedia_id", "checkpoint_path"),
    *("from_pretrained_path", "output_path", "cached_activations_path", "use_cached_activations", "seed", "verbose"),
    *("act_store_device", "llm_device", "autocast", "autocast_lm", "compile_llm", "compile_sae", "resume"),
    *("llm_compilation_mode", "sae_compilation_mode", "resume_from_checkpoint", "save_final_checkpoint"),
    *("wandb_entity", "wandb_id", "wandb_log_frequency", "wandb_project", "log_to_wandb", "run_name", "logger"),
    *("log_activations_store_to_wandb", "log_optimizer_state_to_wandb", "eval_every_n_wandb_logs", "n_checkpoints"),
)
# The text that it was trained on.
_TEXT = (
    *("dataset_path", "dataset_trust_remote_code", "is_dataset_tokenized", "streaming", "context_size", "prepend_bos"),
    *("exclude_special_tokens", "seqpos_slice", "sequence_separator_token", "disable_concat_sequences"),
    *("use_chat_formatting", "training_tokens", "finetuning_tokens", "train_batch_size", "train_batch_size_tokens"),
    *("train_batch_size_samples", "total_training_samples", "store_batch_size", "store_batch_size_prompts"),
    *("n_batches_in_buffer", "prefetch_llm_batches", "activations_mixing_fraction", "eval_batch_size_prompts"),
    *("n_eval_batches", "n_eval_seqs", "tokens_per_buffer", "total_training_tokens"),
)
# How it was trained. Noise is added in training alone, and the scaling of fine tuning multiplies what decoding reads.
_TRAINING = (
    *("lr", "lr_end", "lr_decay_steps", "lr_scheduler_name", "lr_warm_up_steps", "n_restart_cycles", "adam_beta1"),
    *("adam_beta2", "l1_coefficient", "l1_warm_up_steps", "l0_coefficient", "l0_warm_up_steps", "lp_norm", "target_l0"),
    *("mse_loss_normalization", "normalize_sae_decoder", "noise_scale", "decoder_orthogonal_init", "decoder_init_norm"),
    *("decoder_heuristic_init", "decoder_heuristic_init_norm", "init_encoder_as_decoder_transpose"),
    *("scale_sparsity_penalty_by_decoder_norm", "b_dec_init_method", "expansion_factor", "use_ghost_grads"),
    *("dead_feature_threshold", "dead_feature_window", "feature_sampling_window", "finetuning_method"),
    *("jumprelu_init_threshold", "jumprelu_bandwidth", "jumprelu_sparsity_loss_mode", "jumprelu_ste_to_input"),
    *("jumprelu_tanh_scale", "pre_act_loss_coefficient", "aux_loss_coefficient", "use_sparse_activations"),
    *("topk_threshold_lr", "matryoshka_widths", "use_matryoshka_aux_loss", "n_batches_for_norm_estimate"),
    *("training_architecture", "training_architecture_details", "l0", "num_dead_features"),
    *("finetuning_scaling_factor", "feature_sampling_method", "feature_reinit_scale", "resample_batches"),
    *("dead_feature_estimation_method",),
)
# Other names of what is read elsewhere, and where a reconstruction would be put.
_PLACES = (
    *("hook_eval", "hook_point_eval", "hook_name_out", "hook_head_index_out", "hf_hook_name", "hf_hook_name_out"),
)
HARMLESS = frozenset((*_STORAGE, *_TEXT, *_TRAINING, *_PLACES))

# Of the keywords with which TransformerLens loaded the model, those that change no value at a site.
HARMLESS_LOADING = frozenset(
    (
        *("fold_ln", "center_unembed", "n_devices", "device", "device_map", "dtype", "torch_dtype", "n_ctx"),
        *("default_prepend_bos", "default_padding_side", "move_to_device", "trust_remote_code", "low_cpu_mem_usage"),
        *("attn_implementation", "token", "cache_dir", "local_files_only", "first_n_layers"),
    )
)
