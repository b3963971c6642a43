# SPDX-License-Identifier: Apache-2.0
"""A Triton in a process below this one: started, watched, restarted. Also the model repositories that it is given."""
