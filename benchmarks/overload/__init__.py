# SPDX-License-Identifier: Apache-2.0
"""The frontend under more load than the model can serve, and when clients disconnect. See README.md."""
