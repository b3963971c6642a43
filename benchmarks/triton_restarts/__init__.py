# SPDX-License-Identifier: Apache-2.0
"""Kill Triton repeatedly under load: requests without a response, and the time until recovery."""
