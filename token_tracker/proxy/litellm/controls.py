"""Which top-level fields of a request LiteLLM would obey rather than forward; a test compares with LiteLLM's own lists.

Everything else, known to us or not, is forwarded: only the upstream can judge it.
"""

from __future__ import annotations

_NAMES = frozenset(
    """
    acompletion additional_drop_params aembedding agent_id agentcore_runtime_session_id aimg_generation
    allm_passthrough_route allow_client_keepalive_override allowed_model_region allowed_openai_params api_base
    api_key api_type api_version applied_guardrails assistant_continue_message async_call atext_completion
    attempted_targets azure base_model base_url bedrock_tags bos_token bucket_name budget_duration budget_id
    cache cache_key caching caching_groups callbacks client client_id client_secret client_side_timeout
    complete_response completion_call_id configurable_clientside_auth_params content_policy_fallbacks
    context_window_fallback_dict context_window_fallbacks cooldown_time custom_llm_provider custom_prompt_dict
    data_residency default_api_key_rpm_limit default_api_key_tpm_limit default_fallbacks default_headers
    deployment_id deployment_url disable_add_transform_inline_image_block disable_fallbacks
    disable_global_guardrails drop_params enable_json_schema_validation enable_prompt_caching
    enable_tag_filtering ensure_alternating_roles eos_token extra_body extra_headers extra_query
    failure_callback fallback_depth fallbacks fastest_response final_prompt_value fireworks_forward_user_id
    force_timeout guardrails headers hf_model_name id input_callback itpm keepalive_seconds
    log_client_error_tracebacks logger_fn max_agentic_loops max_budget max_fallbacks max_file_size_mb
    max_parallel_requests max_retries merge_reasoning_content_in_choices model_alias_map model_config
    model_file_id_mapping model_group model_info model_list modify_params no-log num_retries nvcf_function_id
    order organization otpm output_vector_size policies preset_cache_key prompt_environment prompt_id
    prompt_label prompt_variables prompt_version provider_affinity_header provider_specific_header
    proxy_server_request region_name regional_endpoint_uplift_multiplier request_timeout retry_policy
    retry_strategy roles router_settings_override routing_strategy rpm rust sagemaker_base_url search_tool_name
    secret_fields self service_callback shared_session silent_model specific_deployment ssl_verify
    stream_chunk_size stream_response stream_timeout stream_timeout_by_service_tier success_callback
    supports_system_message tag_regex tags tenant_id text_completion tiered_pricing timeout
    timeout_by_service_tier tpm ttl turn_off_message_logging use_chat_completions_api use_client
    use_in_pass_through use_litellm_proxy use_ssl use_xai_oauth user_config user_continue_message verbose
    watsonx_region_name weight workspace_id
    """.split()  # noqa: SIM905 (one word a name reads better than 150 quoted strings)
)
_PREFIXES = (
    "_ adaptive_router_ anthropic- anthropic_ arize_ auto_router_ aws_ azure_ braintrust_ complexity_router_ dd_ gcs_ "
    "humanloop_ langfuse_ langsmith_ litellm_ lunary_ milvus_ mock_ newrelic_ openai_ posthog_ quality_router_ "
    "regional_processing_ s3_ signoz_ slack_ user_api_key valkey_ vector_store_id vertex_ wandb_ weave_"
)
_PREFIX_TUPLE = tuple(_PREFIXES.split())


def is_control(name: str) -> bool:
    """Whether a client's field of this name must not reach LiteLLM: prices, credentials, addresses, retries,
    callbacks, mocks."""
    return name in _NAMES or name.startswith(_PREFIX_TUPLE) or "cost_per_" in name or "_token_cost" in name
