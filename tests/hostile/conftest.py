# SPDX-License-Identifier: Apache-2.0
"""The hostile suite: requests that once killed, blocked or misled the frontend or Triton, and similar ones.

Quick cases run in `make test`. Cases marked `slow` run in `make test-slow` and CI.

- HTTP and connections: `test_parser_limits`, `test_upgrade_requests`, `test_head_requests`, `test_body_buffers`,
  `test_connection_room`
- Clients that disconnect: `test_clients_that_leave`, `test_leaving_amid_body`, `test_v2_clients_leave`
- Bodies: `test_forms_refused`, `test_json_cost`, `test_absurd_numbers`, `test_values_kept`
- Triton's own protocol: `test_v2_requests`, `test_v2_remembered`, `test_v2_mutations`
- Pictures: `test_hostile_pictures`, `test_picture_decoders`, `test_triton_pictures`, `test_many_pictures`,
  `test_unreadable_requests`
- Processes and tasks that die: `test_dead_processes`, `test_triton_restarter`, `test_keepers`,
  `test_idempotency_after_crash`
- Errors and silence: `test_true_causes`, `test_silent_streams`, `v2/test_v2_silent_streams`, `test_long_text_in_errors`
- Secrets and addresses: `test_secrets_and_logs`, `test_webhook_addresses`, `test_behind_tls_proxy`
- Deployment: `test_deployment_environments`, `test_every_address`, `test_check_sees`
"""
