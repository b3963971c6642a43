// SPDX-License-Identifier: Apache-2.0
// A Triton backend that accepts any model and runs nothing: it loads a model in a millisecond.
void *TRITONBACKEND_ModelInstanceExecute(void *instance, void **requests, unsigned count) { return 0; }
